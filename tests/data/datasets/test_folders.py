"""Folders of images as data sets."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfal.data import datasets
from dfal.data.datasets import Dataset, folders
from dfal.errors import DfalError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.load.cache_clear()
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
    image[0, 0] = number
    return image


def write(folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / f"{number:03}.png")


def numbers(data: Dataset, test: bool = False) -> dict[int, str]:
    """Which images there are, and what they are called."""
    images, labels = (data.test_images, data.test_labels) if test else (data.images, data.labels)
    raw = images.raw(np.arange(len(images)))
    found = {
        int(image[0, 0, 0]): data.classes[label]
        for image, label in zip(raw, labels.tolist(), strict=True)
    }
    assert len(found) == len(images)
    assert all(np.array_equal(image[0], picture(int(image[0, 0, 0]))) for image in raw)
    return found


def test_sub_folders_are_classes_and_a_fifth_of_each_is_held_out(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "cat", range(20))
    write(tmp_path / "photos" / "dog" / "2026" / "may", range(100, 110))
    write(tmp_path / "photos", range(200, 203))  # without a class: left out
    data = datasets.load(str(tmp_path / "photos"))
    assert data.classes == ("cat", "dog")
    assert data.images.shape == (1, 16, 16)
    pool, test = numbers(data), numbers(data, test=True)
    assert pool | test == {
        number: "cat" if number < 100 else "dog" for number in [*range(20), *range(100, 110)]
    }
    assert sorted(test.values()) == ["cat"] * 4 + ["dog"] * 2
    assert isinstance(data.images.array, np.memmap)
    assert folders.load(tmp_path / "photos").fingerprint == data.fingerprint


def test_train_and_test_are_not_classes(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "train" / "cat", range(6))
    write(tmp_path / "photos" / "train" / "dog", range(10, 16))
    write(tmp_path / "photos" / "test" / "cat", range(20, 23))
    write(tmp_path / "photos" / "test" / "dog", range(30, 32))
    write(tmp_path / "photos" / "val" / "dog", range(40, 42))
    data = folders.load(tmp_path / "photos")
    assert data.classes == ("cat", "dog")
    assert numbers(data) == {
        **dict.fromkeys(range(6), "cat"),
        **dict.fromkeys([*range(10, 16), 40, 41], "dog"),
    }
    assert numbers(data, test=True) == {20: "cat", 21: "cat", 22: "cat", 30: "dog", 31: "dog"}


def test_what_cannot_be_read_is_left_out_and_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "photos" / "cat", range(10))
    write(tmp_path / "photos" / "dog", range(10, 20))
    (tmp_path / "photos" / "cat" / "x.jpg").write_bytes(b"hello")
    data = folders.load(tmp_path / "photos")
    assert len(numbers(data)) + len(numbers(data, test=True)) == 20
    assert "1 files of" in (err := capsys.readouterr().err)
    assert "the first cat/x.jpg: it is no JPEG" in err
    folders.load(tmp_path / "photos")
    assert "left out" not in capsys.readouterr().err


def test_a_file_that_came_later_changes_neither_order_nor_labels_of_the_others(
    tmp_path: Path,
) -> None:
    """The cache numbers files as they come; the data set is that of a fresh cache."""
    write(tmp_path / "photos" / "cat", range(10, 20))
    write(tmp_path / "photos" / "dog", range(30, 40))
    folders.load(tmp_path / "photos")
    write(tmp_path / "photos" / "cat", range(5))
    grown = folders.load(tmp_path / "photos")
    (tmp_path / "photos").rename(tmp_path / "moved")  # another place, another cache
    assert folders.load(tmp_path / "moved").fingerprint == grown.fingerprint


@pytest.mark.parametrize("classes", [[], ["cat"]])
def test_fewer_than_two_classes_are_refused(tmp_path: Path, classes: list[str]) -> None:
    for name in classes or ["."]:
        write(tmp_path / "photos" / name, range(10))
    with pytest.raises(
        DfalError, match=f"images of {len(classes)} classes in sub-folders, but two are needed"
    ):
        folders.load(tmp_path / "photos")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DfalError, match="holds no image"):
        datasets.load(str(tmp_path / "photos"))


def test_a_sub_folder_that_cannot_be_listed_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("cat", "dog", "eel")):
        write(tmp_path / "photos" / name, range(10 * number, 10 * number + 10))
    whole = os.scandir

    def listed(path: str | Path) -> Any:
        if Path(path).name == "eel":  # Python itself gives text
            raise OSError(5, "Input/output error")
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", listed)
        with pytest.raises(
            DfalError,
            match=r"the folder eel in .*photos is not read: it cannot be listed .Input/output",
        ):
            folders.load(tmp_path / "photos")
    assert folders.load(tmp_path / "photos").classes == ("cat", "dog", "eel")


def test_images_that_cannot_be_read_just_now_are_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfal.data import background_decoding

    write(tmp_path / "photos" / "cat", range(10))
    write(tmp_path / "photos" / "dog", range(10, 20))
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "007.png":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(background_decoding, "RETRY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        with pytest.raises(
            DfalError,
            match=r"1 images of .* the first cat/007.png: it cannot be read just now .Permission",
        ):
            folders.load(tmp_path / "photos")
    assert len(numbers(folders.load(tmp_path / "photos"))) == 16
