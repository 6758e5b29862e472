"""The same few images in every form in which a user may have them."""

import csv
import importlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

hugging_face: Any = importlib.import_module("datasets")  # mypy finds tests/data/datasets
COUNT = 30
NAMES = ("cat", "dog", "owl")
LABELS = np.arange(COUNT) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)


def picture(index: int) -> Image.Image:
    return Image.fromarray(PIXELS[index])


def content(index: int) -> bytes:
    file = io.BytesIO()
    picture(index).save(file, "PNG")
    return file.getvalue()


def path_of(index: int) -> str:
    return f"{NAMES[LABELS[index]]}/{index:03}.png"


def in_folder(folder: Path) -> str:
    for index in range(COUNT):
        path = folder / "photos" / path_of(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(index))
    return str(folder / "photos")


def in_zip(folder: Path) -> str:
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for index in range(COUNT):
            archive.writestr(f"photos/{path_of(index)}", content(index))
    return str(folder / "photos.zip")


def in_memory(_: Path) -> str:
    system = fsspec.filesystem("memory")
    for index in range(COUNT):
        system.pipe(f"/own-images/{path_of(index)}", content(index))
    return "memory://own-images"


def in_table(folder: Path) -> str:
    in_folder(folder)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(
            [f"photos/{path_of(index)}", NAMES[LABELS[index]]] for index in range(COUNT)
        )
    return str(folder / "table.csv")


def in_parquet(folder: Path) -> str:
    images = [{"bytes": content(index), "path": None} for index in range(COUNT)]
    table = pyarrow.table({"image": images, "label": LABELS})
    parquet.write_table(table, folder / "images.parquet", row_group_size=7)
    return str(folder / "images.parquet")


def in_shards(folder: Path) -> str:
    for shard in range(2):
        with tarfile.open(folder / f"shard-{shard:03}.tar", "w") as archive:
            for index in range(shard * COUNT // 2, (shard + 1) * COUNT // 2):
                for ending, value in (
                    ("png", content(index)),
                    ("cls", str(LABELS[index]).encode()),
                ):
                    member = tarfile.TarInfo(f"{index:06}.{ending}")
                    member.size = len(value)
                    archive.addfile(member, io.BytesIO(value))
    return f"{folder}/shard-{{000..001}}.tar"


def in_array_file(folder: Path) -> str:
    np.save(folder / "images.npy", PIXELS)
    np.save(folder / "images.labels.npy", LABELS)
    return str(folder / "images.npy")


def hugging_face_set() -> Any:
    features = hugging_face.Features(
        {"image": hugging_face.Image(), "label": hugging_face.ClassLabel(names=list(NAMES))}
    )
    rows = {
        "image": [{"bytes": content(index), "path": None} for index in range(COUNT)],
        "label": LABELS.tolist(),
    }
    return hugging_face.Dataset.from_dict(rows, features=features)


def saved_by_hugging_face(folder: Path) -> str:
    hugging_face.disable_progress_bars()
    hugging_face_set().save_to_disk(str(folder / "saved"))
    return f"hf:{folder / 'saved'}"


class LikeTorchvision:
    """A data set of pictures with targets and classes, as those of torchvision."""

    classes = NAMES
    targets = LABELS.tolist()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return picture(index), int(LABELS[index])


def channels_first() -> NDArray[np.uint8]:
    return PIXELS.transpose(0, 3, 1, 2)


def own_function() -> Any:
    return LikeTorchvision()


NAMED: dict[str, tuple[str, Callable[[Path], str]]] = {
    "folder": ("folder", in_folder),
    "zip": ("folder", in_zip),
    "memory": ("folder", in_memory),
    "table": ("table", in_table),
    "parquet": ("parquet", in_parquet),
    "shards": ("webdataset", in_shards),
    "array file": ("array", in_array_file),
    "saved by datasets": ("hugging-face", saved_by_hugging_face),
    "function": ("function", lambda _: "own_images:own_function"),
}
"""What → the way in that takes it, and a function that writes the images to a folder."""

OBJECTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "like torchvision": ("torch", LikeTorchvision),
    "pairs of tensors": (
        "torch",
        lambda: torch.utils.data.TensorDataset(
            torch.from_numpy(channels_first().copy()), torch.from_numpy(LABELS)
        ),
    ),
    "part of a data set": (
        "torch",
        lambda: torch.utils.data.Subset(LikeTorchvision(), range(COUNT)),  # type: ignore[arg-type]
    ),
    "list of pairs": ("torch", lambda: list(LikeTorchvision())),  # type: ignore[call-overload]
    "dictionaries": (
        "torch",
        lambda: [{"image": picture(i), "label": NAMES[LABELS[i]]} for i in range(COUNT)],
    ),
    "datasets": ("hugging-face", hugging_face_set),
}
