"""Quick-Draw and Shoe-Bag, with a few images of each class in place of the real counts: nothing
else is changed."""

import io
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from test_download import Mirror, mirror

from dfal.data.datasets import mapped, quick_draw, shoe_bag
from dfal.data.datasets.download import find, recorded
from dfal.errors import DfalError

__all__ = ["mirror"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
FEW = {
    quick_draw: {"cat": 12, "face": 9, "angel": 7, "dolphin": 5},
    shoe_bag: {"shoe": 6, "bag": 8},
}


def images(kind: ModuleType) -> dict[str, Array]:
    """What the official files hold."""
    rng = np.random.default_rng(0)
    shape = (784,) if kind is quick_draw else (64, 64, 3)
    return {
        name: rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        for name, count in FEW[kind].items()
    }


def official(
    kind: ModuleType, folder: Path, arrays: dict[str, Array] | None = None
) -> dict[str, Path]:
    """The official files, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in (arrays or images(kind)).items():
        files[name] = folder / (f"{name}.npy" if kind is quick_draw else shoe_bag.FILES[name])
        if kind is quick_draw:
            np.save(files[name], array)
        else:
            with h5py.File(files[name], "w") as file:
                file.create_dataset("imgs", data=array)
    return files


@pytest.fixture(params=[quick_draw, shoe_bag], ids=["quick-draw", "shoe-bag"])
def kind(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """One of the two, small, with an empty cache and an empty DFAL_DATA."""
    module: ModuleType = request.param
    monkeypatch.setattr(module, "COUNTS", FEW[module])
    monkeypatch.setattr(module, "HELD_OUT", 2, raising=False)
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(
        module, "fetch", lambda *_, **__: pytest.fail("nothing needs to be downloaded")
    )
    return module


def first(kind: ModuleType) -> dict[str, int]:
    return (
        {"cat": 9, "face": 7, "angel": 5, "dolphin": 4}
        if kind is quick_draw
        else {"shoe": 4, "bag": 6}
    )


def assert_right(kind: ModuleType) -> None:
    data, arrays = kind.load(), images(kind)
    assert data.classes == tuple(arrays)
    for part, labels, held_out in (
        (data.images, data.labels, False),
        (data.test_images, data.test_labels, True),
    ):
        wanted, answers = [], []
        for label, (name, array) in enumerate(arrays.items()):
            chosen = array[first(kind)[name] :] if held_out else array[: first(kind)[name]]
            wanted.append(
                chosen.reshape(-1, 1, 28, 28)
                if kind is quick_draw
                else chosen.transpose(0, 3, 1, 2)
            )
            answers += [label] * len(chosen)
        assert np.array_equal(part.array, np.concatenate(wanted))
        assert labels.tolist() == answers


def test_the_counts_are_those_of_the_paper() -> None:
    for module, pool, test in ((quick_draw, 444_971, 111_246), (shoe_bag, 184_792, 4_000)):
        assert (sum(module.pool().values()), sum(module.test().values())) == (pool, test)
        assert (module.CARD.pool, module.CARD.test) == (pool, test)
        assert module.CARD.classes == tuple(module.COUNTS)


def test_files_in_dfal_data_are_used_and_left_alone(kind: ModuleType, tmp_path: Path) -> None:
    assert kind.where() is None
    files = official(kind, tmp_path / "data" / kind.NAME)
    assert kind.where() == tmp_path / "data" / kind.NAME
    assert_right(kind)
    assert all(path.is_file() for path in files.values())
    assert kind.where() == tmp_path / "cache" / "dfal" / kind.NAME


def test_it_is_written_once_and_memory_mapped(
    kind: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = official(kind, tmp_path / "data" / kind.NAME)
    kind.load()
    for path in files.values():
        path.unlink()
    monkeypatch.setattr(mapped, "write", lambda *_: pytest.fail("it is written already"))
    assert_right(kind)
    assert isinstance(kind.load().images.array, np.memmap)
    assert sorted(file.name for file in (tmp_path / "cache" / "dfal" / kind.NAME).iterdir()) == [
        "pool.npy",
        "test.npy",
    ]


def served(kind: ModuleType, one: Mirror, tmp_path: Path) -> dict[str, str]:
    """The official files on a server; file → SHA-256."""
    sums = {}
    for path in official(kind, tmp_path / "there").values():
        content = path.read_bytes()
        sums[path.name] = sha256(content).hexdigest()
        if kind is shoe_bag:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(path.name, content)
            one.files[f"{path.stem}.zip"] = packed.getvalue()
        else:
            one.files[path.name] = content
    return sums


def test_what_is_missing_is_downloaded_and_its_checksum_recorded(
    kind: ModuleType, mirror: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mirror()
    sums = served(kind, one, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(kind, "COUNTS", FEW[kind])
    monkeypatch.setattr(kind, "HELD_OUT", 2, raising=False)
    monkeypatch.setattr(kind, "MIRRORS", [one.address])
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    assert_right(kind)
    assert recorded(kind.NAME) == sums
    kept = {file.name for file in (tmp_path / "cache" / "dfal" / kind.NAME).iterdir()}
    assert kept == {"pool.npy", "test.npy", "SHA256SUMS"}  # what was downloaded is not kept twice


def test_a_download_that_broke_off_goes_on_and_ends_right(
    kind: ModuleType, mirror: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mirror()
    served(kind, one, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(kind, "COUNTS", FEW[kind])
    monkeypatch.setattr(kind, "HELD_OUT", 2, raising=False)
    monkeypatch.setattr(kind, "MIRRORS", [one.address])
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    one.cut = 3000
    with pytest.raises(DfalError, match="the transfer ended after 3,000 of"):
        kind.load()
    assert kind.where() is None
    one.cut = None
    assert_right(kind)
    assert one.asked[1] == "bytes=3000-"


@pytest.mark.parametrize("wrong", ["one image less", "another shape", "another type", "no array"])
def test_files_with_other_counts_or_shapes_are_refused(
    kind: ModuleType, tmp_path: Path, wrong: str
) -> None:
    arrays: dict[str, Any] = images(kind)
    name = list(arrays)[1]
    arrays[name] = {
        "one image less": arrays[name][1:],
        "another shape": arrays[name][:, :40],
        "another type": arrays[name].astype(np.int16),
        "no array": arrays[name],
    }[wrong]
    path = official(kind, tmp_path / "data" / kind.NAME, arrays)[name]
    if wrong == "no array":
        path.write_bytes(b"<html>" * 100)
    with pytest.raises(
        DfalError, match=rf"{path.name} (holds|cannot be read).*delete it and try again"
    ) as raised:
        kind.load()
    assert "\n" not in str(raised.value)
    assert mapped.where(kind.NAME) is None
    official(kind, tmp_path / "data" / kind.NAME)
    assert_right(kind)


def test_a_written_data_set_that_is_damaged_is_refused(kind: ModuleType, tmp_path: Path) -> None:
    official(kind, tmp_path / "data" / kind.NAME)
    kind.load()
    path = tmp_path / "cache" / "dfal" / kind.NAME / "test.npy"
    np.save(path, np.load(path)[1:])
    with pytest.raises(DfalError, match=r"test\.npy holds uint8 of shape .*: delete it"):
        kind.load()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DfalError, match=r"test\.npy cannot be read"):
        kind.load()


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    kind: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official(kind, tmp_path / "data" / kind.NAME)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(DfalError, match=r"cannot be written .No space left on device"):
            kind.load()
    assert list((tmp_path / "cache" / "dfal" / kind.NAME).iterdir()) == []
    assert_right(kind)


def test_without_h5py_shoe_bag_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    monkeypatch.setattr(
        shoe_bag,
        "fetch",
        lambda *_, **__: pytest.fail("nothing is downloaded before it is known to be of use"),
    )
    with pytest.raises(DfalError, match=r"pip install 'dfal\[hdf5\]'"):
        shoe_bag.load()


def test_a_file_of_the_cache_is_found_by_its_own_name(kind: ModuleType, tmp_path: Path) -> None:
    files = official(kind, tmp_path / "cache" / "dfal" / kind.NAME)
    assert all(find(kind.NAME, path.name) == path for path in files.values())
    assert_right(kind)
