"""Reading 10,000 images in each form of own data, beside the fastest plain reader of that form:

    DFAL_DATA=… python benchmarks/own_data.py

The images are the first 10,000 of the training set of `cifar-10-sample.tar.gz` in DFAL_DATA, JPEG
of 32 × 32 pixels in colour. Each way in opens its files and reads all images into one array; the
plain reader does the same with the library of the form and Pillow, in the order of the file. Both
use one thread and take turns; figures are CPU time, and ratios the medians over the turns.
"""

import argparse
import importlib
import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import dfal
from dfal.errors import DfalError
from measure import taken_on, write

Pixels = NDArray[np.uint8]
Read = Callable[[], Any]
COUNT = 10_000


def contents(count: int) -> list[bytes]:
    """Return the contents of the first files of the sample, in the order of the archive."""
    root = os.environ.get("DFAL_DATA")
    path = Path(root or "") / "cifar-10-sample.tar.gz"
    if root is None or not path.is_file():
        raise DfalError("set DFAL_DATA to a folder that holds cifar-10-sample.tar.gz")
    with tarfile.open(path) as archive:
        found: list[bytes] = []
        for member in archive:
            if member.name.endswith(".jpg") and "/train/" in member.name and len(found) < count:
                file = archive.extractfile(member)
                assert file is not None
                found.append(file.read())
    return found


def decode(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def stacked(images: Iterable[Pixels], count: int) -> Pixels:
    array = np.empty((count, 32, 32, 3), np.uint8)
    for row, pixels in enumerate(images):
        array[row] = pixels
    return array


class Pictures:
    """A data set as those of torchvision: pictures made from an array."""

    def __init__(self, pixels: Pixels):
        self.pixels = pixels
        self.targets = [0] * len(pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), self.targets[index]


def forms(folder: Path, files: list[bytes]) -> dict[str, tuple[Any, Read]]:
    """Write the images in each form. Return name → what dfal reads, and the plain reader."""
    pyarrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    hugging_face: Any = importlib.import_module("datasets")
    hugging_face.disable_progress_bars()
    count, pixels = len(files), stacked(map(decode, files), len(files))
    (folder / "photos" / "a").mkdir(parents=True)
    paths = [folder / "photos" / "a" / f"{i:05}.jpg" for i in range(count)]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    (folder / "table.csv").write_text("\n".join(["path,label", *(f"{path},a" for path in paths)]))
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for path, content in zip(paths, files, strict=True):
            archive.writestr(f"a/{path.name}", content)
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for i, content in enumerate(files):
            for ending, value in (("jpg", content), ("cls", b"0")):
                member = tarfile.TarInfo(f"{i:05}.{ending}")
                member.size = len(value)
                shard.addfile(member, io.BytesIO(value))
    table = pyarrow.table({"image": files, "label": [0] * count})
    parquet.write_table(table, folder / "images.parquet", row_group_size=1000)
    np.save(folder / "images.npy", pixels)
    features = hugging_face.Features(
        {"image": hugging_face.Image(), "label": hugging_face.Value("int64")}
    )
    rows = {"image": [{"bytes": file, "path": None} for file in files], "label": [0] * count}
    saved = hugging_face.Dataset.from_dict(rows, features=features)
    saved.save_to_disk(str(folder / "saved"))

    def of_files() -> Pixels:
        return stacked((decode(path.read_bytes()) for path in paths), count)

    def of_zip() -> Pixels:
        with zipfile.ZipFile(folder / "photos.zip") as archive:
            return stacked((decode(archive.read(name)) for name in archive.namelist()), count)

    def of_tar() -> Pixels:
        with tarfile.open(folder / "shard.tar") as shard:
            found = (shard.extractfile(member) for member in shard if member.name.endswith("jpg"))
            return stacked((decode(file.read()) for file in found if file), count)

    def of_parquet() -> Pixels:
        batches = parquet.ParquetFile(folder / "images.parquet").iter_batches(columns=["image"])
        values = (value.as_py() for batch in batches for value in batch["image"])
        return stacked(map(decode, values), count)

    def of_hugging_face() -> Pixels:
        loaded = hugging_face.load_from_disk(str(folder / "saved"))
        return stacked((np.asarray(row["image"]) for row in loaded), count)

    def of_pictures() -> Pixels:
        data = Pictures(pixels)
        return stacked((np.asarray(data[i][0]) for i in range(count)), count)

    def of_array() -> Pixels:
        return np.array(np.load(folder / "images.npy", mmap_mode="r"))

    return {
        "folder": (folder / "photos", of_files),
        "table": (folder / "table.csv", of_files),
        "zip": (folder / "photos.zip", of_zip),
        "webdataset": (folder / "shard.tar", of_tar),
        "parquet": (folder / "images.parquet", of_parquet),
        "hugging-face": (f"hf:{folder / 'saved'}", of_hugging_face),
        "torch": (Pictures(pixels), of_pictures),
        "array": (folder / "images.npy", of_array),
    }


def cpu_seconds(read: Read) -> tuple[float, Any]:
    start = time.process_time()
    result = read()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=COUNT)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = contents(options.images)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (data, plain) in forms(Path(folder), files).items():

            def read(data: Any = data) -> Pixels:
                images = dfal.Images.of(data)
                raw: Pixels = images.raw(np.arange(len(images)))
                return raw

            ours: list[float] = []
            theirs: list[float] = []
            for turn in range(options.repeats + 1):
                sides = [(ours, read), (theirs, plain)]
                for seconds, side in sides if turn % 2 else sides[::-1]:
                    spent, result = cpu_seconds(side)
                    if turn:  # the first imports, and brings files into memory
                        seconds.append(spent)
                    if side is read:
                        found = result
                    else:
                        expected = result.transpose(0, 3, 1, 2)
            assert (found == expected).all(), name
            results[name] = {
                "images_per_second": round(len(files) / median(ours)),
                "plain_images_per_second": round(len(files) / median(theirs)),
                "ratio": round(median(a / b for a, b in zip(ours, theirs, strict=True)), 2),
            }
            print(name, results[name], file=sys.stderr)
    write(
        Path(__file__).parent / "results" / "own_data.json",
        {
            **taken_on(["numpy", "pillow", "pyarrow", "datasets"]),
            "images": len(files),
            "repeats": options.repeats,
            "forms": results,
        },
    )


if __name__ == "__main__":
    main()
