"""Every way in gives the same images and labels."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dfal
import own_images
from dfal.data import datasets, sources
from dfal.data.sources import SOURCES, reading
from dfal.data.sources.base import Source
from dfal.data.sources.decoder import Decoder
from dfal.errors import DfalError
from dfal.experiments import trial_data

Write = Callable[[Path], str]
WRITTEN = pytest.mark.parametrize(("way", "write"), own_images.NAMED.values(), ids=own_images.NAMED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets.load.cache_clear()
    return tmp_path / "cache"


def order_of(what: str) -> list[int]:
    """The images of a folder come in the order of their paths."""
    if what in {"folder", "zip", "memory"}:
        return sorted(range(own_images.COUNT), key=own_images.path_of)
    return list(range(own_images.COUNT))


def check(data: Any, order: list[int]) -> None:
    labelled = sources.read(data)
    images, labels = labelled.images, labelled.labels
    assert images.raw(np.arange(len(images))).dtype == np.uint8
    assert (images.raw(np.arange(len(images))) == own_images.channels_first()[order]).all()
    assert labels is not None
    assert labels.tolist() == own_images.LABELS[order].tolist()
    assert labelled.classes in {own_images.NAMES, ("0", "1", "2")}
    assert (dfal.Images.of(data).raw(np.arange(3)) == images.raw(np.arange(3))).all()


@pytest.mark.parametrize("what", own_images.NAMED)
def test_images_and_labels_of_a_name_are_read(what: str, tmp_path: Path) -> None:
    way, write = own_images.NAMED[what]
    name = write(tmp_path)
    assert next(one for one in SOURCES if SOURCES[one].recognises(name)) == way
    check(name, order_of(what))


@pytest.mark.parametrize("what", own_images.OBJECTS)
def test_images_and_labels_of_an_object_are_read(what: str) -> None:
    way, make = own_images.OBJECTS[what]
    made = make()
    assert next(one for one in SOURCES if SOURCES[one].recognises(made)) == way
    check(made, order_of(what))


def test_every_way_in_is_tested() -> None:
    ways = {way for way, _ in (*own_images.NAMED.values(), *own_images.OBJECTS.values())}
    assert ways == set(SOURCES)


@WRITTEN
def test_a_name_is_a_data_set_of_a_study(way: str, write: Write, tmp_path: Path) -> None:
    name = write(tmp_path)
    data = datasets.load(name)
    assert (len(data.images), len(data.test_images)) == (24, 6)
    assert data.test_labels.bincount().tolist() == [2, 2, 2]
    images = {own_images.channels_first()[i].tobytes(): own_images.LABELS[i] for i in range(30)}
    for part, labels in ((data.images, data.labels), (data.test_images, data.test_labels)):
        for raw, label in zip(part.raw(np.arange(len(part))), labels, strict=True):
            # Taken out, so that no image is in both parts.
            assert images.pop(raw.tobytes()) == label
    resized = trial_data.load(name, size=8)
    assert resized.images.shape == (3, 8, 8)
    assert resized.labels.tolist() == data.labels.tolist()


@pytest.mark.parametrize("what", ["zip", "table", "parquet", "shards", "saved by datasets"])
def test_with_a_size_images_are_read_from_their_originals(what: str, tmp_path: Path) -> None:
    """And not from what was fitted into the usual square."""
    name = own_images.NAMED[what][1](tmp_path)
    data = datasets.load(name)
    assert data.originals is not None
    indices = np.array([3, 26])  # one of the pool, one of the test set
    for raw, fitted in zip(
        (data.images.raw(indices[:1])[0], data.test_images.raw(indices[1:] - 24)[0]),
        data.originals.read(indices, (3, 32, 32)),
        strict=True,
    ):
        (original,) = [i for i in range(30) if (own_images.channels_first()[i] == raw).all()]
        enlarged = own_images.picture(original).resize((32, 32), Image.Resampling.BICUBIC)
        assert (fitted.transpose(1, 2, 0) == np.asarray(enlarged)).all()


def test_images_are_decoded_once_and_again_where_a_file_changed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_images.in_parquet(tmp_path)
    first = datasets.load(name).fingerprint
    (file,) = (cache / "dfal" / "own").glob("*.npy")
    before = file.stat().st_mtime_ns
    datasets.load.cache_clear()
    assert datasets.load(name).fingerprint == first
    assert file.stat().st_mtime_ns == before
    monkeypatch.setattr(own_images, "PIXELS", 255 - own_images.PIXELS)
    own_images.in_parquet(tmp_path)
    os.utime(name, ns=(1, 1))
    datasets.load.cache_clear()
    assert datasets.load(name).fingerprint != first


def test_decoding_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_images.in_parquet(tmp_path)
    monkeypatch.setattr(reading, "BLOCK_IMAGES", 7)
    decode, decoded = Decoder.__call__, list[int]()

    def interrupted(self: Decoder, index: int) -> Any:
        if index == 16 and index not in decoded:
            decoded.append(index)
            raise KeyboardInterrupt
        decoded.append(index)
        return decode(self, index)

    monkeypatch.setattr(Decoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(name)
    decoded[:] = [16]
    data = datasets.load(name)
    assert sorted(decoded[1:]) == list(range(14, 30)), "the first two blocks were stored"
    whole = np.concatenate(
        [part.raw(np.arange(len(part))) for part in (data.images, data.test_images)]
    )
    assert {image.tobytes() for image in whole} == {
        image.tobytes() for image in own_images.channels_first()
    }


def test_many_images_are_kept_in_a_file_without_a_name(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(reading, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(reading, "BLOCK_IMAGES", 7)
    images = dfal.Images.of(own_images.LikeTorchvision())
    assert isinstance(images.array, np.memmap)
    assert (images.raw(np.arange(30)) == own_images.channels_first()).all()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_arrays_are_not_copied_and_turned_channels_first() -> None:
    array = np.zeros((5, 8, 9, 3), np.uint8)
    images = dfal.Images.of(array)
    assert images.shape == (3, 8, 9)
    assert np.shares_memory(images.array, array)
    assert dfal.Images.of(np.zeros((5, 3, 8, 9), np.uint8)).shape == (3, 8, 9)
    assert dfal.Images.of(torch.zeros(5, 8, 9)).shape == (1, 8, 9)


def test_transform_and_normalisation() -> None:
    def transform(picture: Image.Image) -> torch.Tensor:
        assert picture.size == (16, 16)
        pixels = torch.from_numpy(np.array(picture.resize((4, 6))))
        return pixels.permute(2, 0, 1).float() / 255

    plain = dfal.Images.of(own_images.LikeTorchvision(), transform=transform)
    assert plain.shape == (3, 6, 4)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    images = dfal.Images.of(
        own_images.LikeTorchvision(), transform=transform, mean=mean, std=std
    ).take(torch.arange(30))
    expected = plain.take(torch.arange(30)) - torch.tensor(mean).view(3, 1, 1)
    assert torch.allclose(images, expected / torch.tensor(std).view(3, 1, 1))
    of_bytes = dfal.Images.of(own_images.LikeTorchvision(), mean=[0.5], std=[0.25])
    pixels = torch.from_numpy(own_images.channels_first().copy()).float() / 255
    assert torch.allclose(of_bytes.take(torch.arange(30)), (pixels - 0.5) / 0.25)


@pytest.mark.parametrize("size", [8, 20])
def test_size_fits_files_arrays_and_tensors_alike(size: int, tmp_path: Path) -> None:
    shape = (3, size, size)
    assert dfal.Images.of(own_images.in_zip(tmp_path), size=size).shape == shape
    assert dfal.Images.of(own_images.PIXELS, size=size).shape == shape
    floats = torch.from_numpy(own_images.channels_first().copy()).float() / 255
    taken = dfal.Images.of(floats, size=size).take(torch.arange(30))
    of_bytes = dfal.Images.of(own_images.PIXELS, size=size).take(torch.arange(30))
    assert (taken - of_bytes).abs().max() <= 0.5 / 255 + 1e-6


def test_a_study_runs_on_own_images_and_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker reads them anew, from the path that the store has."""
    own_images.in_shards(tmp_path)
    monkeypatch.chdir(tmp_path)

    def dfal_run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dfal", "run", "--store", str(tmp_path / "s.db"), *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path.cwd(),
        )

    options = [
        "--strategy",
        "random,entropy",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--first",
        "4",
        "--batch",
        "2",
    ]
    options += ["--annotations", "6", "--size", "28", "--processes", "2"]
    done = dfal_run("--dataset", "shard-{000..001}.tar", *options)
    assert done.returncode == 0, done.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert dfal_run("--resume").returncode == 0


class TextSet:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> str:
        return "a text"


class Failing(TextSet):
    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("no such row")


def stream() -> Any:
    yield torch.zeros(1, 2, 2)


NOT_IMAGES: dict[str, tuple[Any, str]] = {
    "numbers of a TensorDataset": (
        torch.utils.data.TensorDataset(torch.arange(3)),
        "the TensorDataset is no set of images (its items are int64 of shape ())",
    ),
    "texts": (TextSet(), "the TextSet is no set of images (its items are of the kind str)"),
    "tokens": ([torch.arange(9)] * 3, "its items are int64 of shape (9,)"),
    "batches": ([torch.zeros(8, 3, 4, 4)] * 3, "its items are float32 of shape (8, 3, 4, 4)"),
    "features": (
        torch.utils.data.TensorDataset(torch.rand(3, 7)),
        "its items are float32 of shape (7,)",
    ),
    "dictionaries without images": ([{"text": "a"}], "its items have the keys text"),
    "boxes": (
        [(torch.zeros(3, 4, 4), {"boxes": []})],
        "has labels of the kind dict, but a class is needed",
    ),
    "one-hot labels": (
        [(torch.zeros(3, 4, 4), torch.tensor([0, 1]))],
        "has labels of shape (2,), but a class is needed",
    ),
    "an empty list": ([], "the list is no set of images (it is empty)"),
    "empty items": ([()], "its items are empty"),
    "a loader": (
        torch.utils.data.DataLoader([torch.zeros(1, 2, 2)]),  # type: ignore[arg-type]
        "it loads batches; its data set is .dataset",
    ),
    "a stream": (stream(), "its images have no numbers; list(…) gives them some"),
    "a dictionary": ({"a": 1}, "this dict is no set of images"),
    "a set": ({1, 2}, "its images have no numbers"),
    "nothing": (None, "this NoneType is no set of images"),
    "a number": (5, "this int is no set of images"),
    "one picture": (Image.new("L", (4, 4)), "is no set of images"),
    "a name": ("photos-that-are-nowhere", "'photos-that-are-nowhere' is no set of images"),
    "no file": ("nowhere.parquet", "there is no file or folder nowhere.parquet"),
    "no archive": ("nowhere.zip", "there is no file or folder nowhere.zip"),
    "no protocol": ("nonsense://a", "nonsense://a cannot be read (Protocol not known: nonsense"),
    "a failing one": (Failing(), "the Failing fails at item 0 (RuntimeError: no such row"),
    "a compressed shard": ("a.tar.gz", "is compressed"),
    "labels": (np.arange(5), "its shape is (5,)"),
    "integers": (np.zeros((3, 4, 4), np.int64), "must be uint8 or floating point"),
}


@pytest.mark.parametrize("what", NOT_IMAGES)
def test_what_is_no_set_of_images_gets_one_sentence(what: str) -> None:
    data, sentence = NOT_IMAGES[what]
    with pytest.raises(DfalError) as raised:
        dfal.Images.of(data)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_of_pandas_is_no_set_of_images() -> None:
    pandas = pytest.importorskip("pandas")
    for data in (pandas.DataFrame({"a": [1.0]}), pandas.Series([1.0])):
        with pytest.raises(DfalError, match="is no set of images"):
            dfal.Images.of(data)


def test_images_of_several_sizes_need_a_size() -> None:
    pictures = [Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))]
    with pytest.raises(DfalError, match=r"image 1 of the list is uint8 of shape \(3, 4, 5\).*size"):
        dfal.Images.of(pictures)
    assert dfal.Images.of(pictures, size=6).shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "size = 0 must be 1 pixel or more"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers, but the images have 3 channels"),
        ({"std": [0.0]}, "std must be above 0"),
        ({"transform": lambda _: "text"}, "what the transform returns is no set of images"),
        ({"transform": lambda _: 1 / 0}, "the transform fails at image 0 (ZeroDivisionError"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DfalError) as raised:
        dfal.Images.of(own_images.LikeTorchvision(), **settings)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, -1, 1], "has the label -1: number the classes from 0"),
        ([0, 1, None], "image 2 of it has no label"),
        (["a", "", "b"], "image 1 of it has no label"),
        ([0, 1, 0.5], "labels of the kind float"),
        ([0, 1, 99], "has the label 99 but 3 images"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[Any], sentence: str) -> None:
    source = Source("it", 3, lambda _: (np.zeros((4, 4), np.uint8), None), labels=labels)
    with pytest.raises(DfalError) as raised:
        sources.read(source)
    assert sentence in str(raised.value)


def test_a_study_needs_labels_and_two_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", own_images.PIXELS)
    with pytest.raises(DfalError, match=r"a\.npy has no labels"):
        datasets.load(str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.labels.npy", np.zeros(30, np.int64))
    with pytest.raises(DfalError, match="images of one class only"):
        datasets.load(str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.labels.npy", np.zeros(29, np.int64))
    with pytest.raises(DfalError, match=r"has the shape \(29,\), but a label is needed"):
        datasets.load(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("package", ["pyarrow.parquet", "datasets"])
def test_a_missing_package_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_images.in_parquet(tmp_path) if "pyarrow" in package else "hf:somebody/photos"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DfalError, match=rf"needs {package.partition('.')[0]}: pip install 'dfal\["):
        sources.read(name)


@pytest.mark.parametrize(
    ("write", "cut"),
    [(own_images.in_parquet, 100), (own_images.in_zip, 100), (own_images.in_array_file, 100)],
)
def test_a_damaged_file_is_named(write: Write, cut: int, tmp_path: Path) -> None:
    path = Path(write(tmp_path))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DfalError, match=path.name):
        sources.read(str(path))


def test_an_image_that_cannot_be_read_is_named_by_its_number() -> None:
    contents = [own_images.content(0), b"no image", own_images.content(2)]
    with pytest.raises(DfalError, match="image 1 of the list: it is no JPEG, PNG"):
        dfal.Images.of(contents)


def test_several_tables_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("path,label\n")
    with pytest.raises(DfalError, match=r"\*\.csv stands for 2 tables: give one"):
        sources.read(f"{tmp_path}/*.csv")
    with pytest.raises(DfalError, match=r"a\.csv has no images"):
        sources.read(f"{tmp_path}/a.csv")


def test_parts_for_testing_are_kept(tmp_path: Path) -> None:
    folder = Path(own_images.in_folder(tmp_path))
    lines = [
        f"{folder / own_images.path_of(i)},{own_images.NAMES[i % 3]},{'test' if i < 9 else 'train'}"
        for i in range(30)
    ]
    table = tmp_path / "split.csv"
    table.write_text("\n".join(["path,label,split", *lines]))
    data = datasets.load(str(table))
    assert (len(data.images), len(data.test_images)) == (21, 9)
    assert (data.test_images.raw(np.arange(9)) == own_images.channels_first()[:9]).all()
