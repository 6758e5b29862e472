import gzip
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfal.data.datasets import fashion_mnist, mnist
from dfal.data.datasets.download import recorded
from dfal.errors import DfalError

SHAPES = ((30, 28, 28), (30,), (9, 28, 28), (9,))
RNG = np.random.default_rng(0)
ARRAYS = {
    name: RNG.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8)
    for name, shape in zip(fashion_mnist.MD5, SHAPES, strict=True)
}


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


RAW = {name: idx(array) for name, array in ARRAYS.items()}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in RAW.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DFAL_DATA's folder of a small Fashion-MNIST, still empty."""
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(
        fashion_mnist, "MD5", {name: md5(content).hexdigest() for name, content in PACKED.items()}
    )
    monkeypatch.setattr(fashion_mnist, "SHAPES", SHAPES)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(
        fashion_mnist, "fetch", lambda *_, **__: pytest.fail("nothing needs to be downloaded")
    )
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_it_is_read_raw_or_packed_and_its_checksum_recorded(here: Path, packed: bool) -> None:
    assert fashion_mnist.where() is None
    for name in RAW:
        (here / (f"{name}.gz" if packed else name)).write_bytes((PACKED if packed else RAW)[name])
    assert fashion_mnist.where() == here
    for _ in range(2):
        data = fashion_mnist.load()
        images, labels, test_images, test_labels = ARRAYS.values()
        assert np.array_equal(data.images.array, images[:, None])
        assert np.array_equal(data.test_images.array, test_images[:, None])
        assert (data.labels.tolist(), data.test_labels.tolist()) == (
            labels.tolist(),
            test_labels.tolist(),
        )
        assert (len(data.classes), data.classes[9]) == (10, "ankle boot")
    assert recorded("fashion-mnist") == {
        name: sha256(content).hexdigest() for name, content in RAW.items()
    }


def test_the_files_of_debians_package_are_taken_where_they_lie(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion_mnist.DEBIAN.mkdir()
    for name, content in RAW.items():
        packed = gzip.compress(content, mtime=1)  # the same content in other bytes
        (fashion_mnist.DEBIAN / f"{name}.gz").write_bytes(packed)
    with pytest.raises(DfalError, match=r"train-images-idx3-ubyte\.gz is damaged or another file"):
        fashion_mnist.load()
    sums = {name: sha256(content).hexdigest() for name, content in RAW.items()}
    monkeypatch.setattr(fashion_mnist, "DEBIAN_SHA256", sums)
    assert fashion_mnist.where() == fashion_mnist.DEBIAN
    data = fashion_mnist.load()
    assert np.array_equal(data.test_images.array, ARRAYS["t10k-images-idx3-ubyte"][:, None])
    assert not list(here.iterdir())


@pytest.mark.skipif(not fashion_mnist.DEBIAN.exists(), reason="needs dataset-fashion-mnist")
def test_debians_package_holds_the_published_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    data = fashion_mnist.load()
    assert (len(data.images), len(data.test_images)) == (60_000, 10_000)
    assert torch.bincount(data.labels).tolist() == [6000] * 10
    # The first ten labels of the test set, as its makers' page shows them.
    assert data.test_labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    mean, deviation = data.images.array.mean() / 255, data.images.array.std() / 255
    assert (round(float(mean), 4), round(float(deviation), 4)) == (0.2860, 0.3530)


def test_a_packed_file_that_is_not_the_published_one_is_refused(here: Path) -> None:
    for name, content in PACKED.items():
        (here / f"{name}.gz").write_bytes(content)
    (here / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(RAW["t10k-labels-idx1-ubyte"][::-1])
    )
    with pytest.raises(
        DfalError, match=r"t10k-labels-idx1-ubyte\.gz is damaged or another file: MD5"
    ):
        fashion_mnist.load()


def test_a_raw_file_that_changed_is_refused(here: Path) -> None:
    for name, content in RAW.items():
        (here / name).write_bytes(content)
    fashion_mnist.load()
    name = "train-labels-idx1-ubyte"
    (here / name).write_bytes(RAW[name][:-1] + b"\x03")
    with pytest.raises(DfalError, match=f"{name} has changed since its first use"):
        fashion_mnist.load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        RAW["t10k-images-idx3-ubyte"][:-1],
        idx(np.zeros((8, 28, 28), np.uint8)),
        bytes([0, 0, 8, 200]),
        bytes(9),
    ],
)
def test_a_raw_file_of_another_form_is_refused_by_name(here: Path, content: bytes) -> None:
    for name, good in RAW.items():
        (here / name).write_bytes(content if name.startswith("t10k-images") else good)
    with pytest.raises(DfalError, match=r"t10k-images-idx3-ubyte .*delete it"):
        fashion_mnist.load()
    assert "t10k-images-idx3-ubyte" not in recorded(
        "fashion-mnist"
    )  # nothing bad is taken for the first use


def test_the_files_of_mnist_which_have_the_same_names_are_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in RAW.items():
        (here / name).write_bytes(content)
    monkeypatch.setattr(
        mnist, "SHA256", {name: sha256(content).hexdigest() for name, content in RAW.items()}
    )
    with pytest.raises(DfalError, match="is the file of MNIST, which has the same name"):
        fashion_mnist.load()


def test_what_is_missing_is_fetched_with_the_published_checksum(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, file: str, mirrors: list[str], *, md5: str) -> Path:
        asked.append((name, file, mirrors, md5))
        (here / file).write_bytes(RAW[file])
        return here / file

    monkeypatch.setattr(fashion_mnist, "fetch", fetch)
    assert len(fashion_mnist.load().images) == 30
    assert asked == [
        ("fashion-mnist", name, fashion_mnist.MIRRORS, md5)
        for name, md5 in fashion_mnist.MD5.items()
    ]
