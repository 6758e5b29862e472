"""Quick-Draw and Shoe-Bag, with a few images of each class in place of the real counts: nothing
else is changed."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_download import Mirror, mirror

from dfal.data.datasets import mapped, quick_draw, shoe_bag
from dfal.data.datasets.download import find, recorded
from dfal.data.datasets.mapped import ClassFiles
from dfal.errors import DfalError

__all__ = ["mirror"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
FEW = {
    "quick-draw": {"cat": 12, "face": 9, "angel": 7, "dolphin": 5},
    "shoe-bag": {"shoe": 6, "bag": 8},
}
FEW_POOL = {
    "quick-draw": {"cat": 9, "face": 7, "angel": 5, "dolphin": 4},
    "shoe-bag": {"shoe": 4, "bag": 6},
}


def class_images(kind: ClassFiles) -> dict[str, Array]:
    """Return what the published files hold."""
    rng = np.random.default_rng(0)
    return {
        name: rng.integers(0, 256, (count, *kind.stored), dtype=np.uint8)
        for name, count in kind.counts.items()
    }


def publish(
    kind: ClassFiles, folder: Path, arrays: dict[str, Array] | None = None
) -> dict[str, Path]:
    """Write the files in a folder as their makers publish them; return class → path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, array in (arrays or class_images(kind)).items():
        paths[name] = folder / kind.files[name]
        if paths[name].suffix == ".npy":
            np.save(paths[name], array)
        else:
            with h5py.File(paths[name], "w") as file:
                file.create_dataset("imgs", data=array)
    return paths


@pytest.fixture(params=[quick_draw.FILES, shoe_bag.FILES], ids=lambda files: str(files.name))
def kind(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ClassFiles:
    """One of the two, small, with an empty cache, an empty DFAL_DATA, and no mirror."""
    files: ClassFiles = request.param
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return replace(files, counts=FEW[files.name], pool=FEW_POOL[files.name], mirrors=[])


def assert_right(kind: ClassFiles) -> None:
    data, arrays = kind.load(), class_images(kind)
    assert data.classes == tuple(arrays)
    for images, labels, of_pool in (
        (data.images, data.labels, True),
        (data.test_images, data.test_labels, False),
    ):
        wanted, their_labels = [], []
        for label, (name, array) in enumerate(arrays.items()):
            border = FEW_POOL[kind.name][name]
            chosen = array[:border] if of_pool else array[border:]
            wanted.append(
                chosen.reshape(-1, 1, 28, 28)
                if kind.name == "quick-draw"
                else chosen.transpose(0, 3, 1, 2)
            )
            their_labels += [label] * len(chosen)
        assert np.array_equal(images.array, np.concatenate(wanted))
        assert labels.tolist() == their_labels


def test_the_counts_are_those_of_the_paper() -> None:
    for module, pool, test in ((quick_draw, 444_971, 111_246), (shoe_bag, 184_792, 4_000)):
        assert (sum(module.FILES.pool.values()), sum(module.FILES.test.values())) == (pool, test)
        assert (module.CARD.pool, module.CARD.test) == (pool, test)


def test_files_in_dfal_data_are_used_and_left_alone(kind: ClassFiles, tmp_path: Path) -> None:
    assert kind.where() is None
    files = publish(kind, tmp_path / "data" / kind.name)
    assert kind.where() == tmp_path / "data" / kind.name
    assert_right(kind)
    assert all(path.is_file() for path in files.values())
    assert kind.where() == tmp_path / "cache" / "dfal" / kind.name


def test_it_is_written_once_and_memory_mapped(
    kind: ClassFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(kind, tmp_path / "data" / kind.name)
    kind.load()
    for path in files.values():
        path.unlink()
    monkeypatch.setattr(mapped, "write", lambda *_: pytest.fail("it is written already"))
    assert_right(kind)
    assert isinstance(kind.load().images.array, np.memmap)
    assert sorted(file.name for file in (tmp_path / "cache" / "dfal" / kind.name).iterdir()) == [
        "pool.npy",
        "test.npy",
    ]


@pytest.fixture
def server(mirror: Callable[..., Mirror], kind: ClassFiles, tmp_path: Path) -> Mirror:
    """A server that holds the published files, packed."""
    server = mirror()
    for path in publish(kind, tmp_path / "there").values():
        packed = io.BytesIO(path.read_bytes())
        if kind.packed == ".zip":
            with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, path.name)
        server.files[path.stem + (kind.packed or path.suffix)] = packed.getvalue()
    return server


def test_what_is_missing_is_downloaded_and_its_checksum_recorded(
    kind: ClassFiles, server: Mirror, tmp_path: Path
) -> None:
    assert_right(replace(kind, mirrors=[server.address]))
    assert recorded(kind.name) == {
        path.name: sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "there").iterdir()
    }
    files = {file.name for file in (tmp_path / "cache" / "dfal" / kind.name).iterdir()}
    assert files == {"pool.npy", "test.npy", "SHA256SUMS"}  # no file is stored twice


def test_a_download_that_broke_off_is_resumed_and_ends_right(
    kind: ClassFiles, server: Mirror
) -> None:
    kind = replace(kind, mirrors=[server.address])
    server.cut = 3000
    with pytest.raises(DfalError, match="the transfer ended after 3,000 of"):
        kind.load()
    assert kind.where() is None
    server.cut = None
    assert_right(kind)
    assert server.asked[1] == "bytes=3000-"


@pytest.mark.parametrize("wrong", ["one image less", "another shape", "another type", "no array"])
def test_files_with_other_counts_or_shapes_are_refused(
    kind: ClassFiles, tmp_path: Path, wrong: str
) -> None:
    arrays: dict[str, Any] = class_images(kind)
    name = list(arrays)[1]
    arrays[name] = {
        "one image less": arrays[name][1:],
        "another shape": arrays[name][:, :40],
        "another type": arrays[name].astype(np.int16),
        "no array": arrays[name],
    }[wrong]
    path = publish(kind, tmp_path / "data" / kind.name, arrays)[name]
    if wrong == "no array":
        path.write_bytes(b"<html>" * 100)
    with pytest.raises(
        DfalError, match=rf"{path.name} (holds|cannot be read).*delete it and try again"
    ) as raised:
        kind.load()
    assert "\n" not in str(raised.value)
    assert kind.written() is None
    publish(kind, tmp_path / "data" / kind.name)
    assert_right(kind)


def test_a_written_data_set_that_is_damaged_is_refused(kind: ClassFiles, tmp_path: Path) -> None:
    publish(kind, tmp_path / "data" / kind.name)
    kind.load()
    path = tmp_path / "cache" / "dfal" / kind.name / "test.npy"
    np.save(path, np.load(path)[1:])
    with pytest.raises(DfalError, match=r"test\.npy holds uint8 of shape .*: delete it"):
        kind.load()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DfalError, match=r"test\.npy cannot be read"):
        kind.load()


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    kind: ClassFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(kind, tmp_path / "data" / kind.name)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(DfalError, match=r"cannot be written .No space left on device"):
            kind.load()
    assert list((tmp_path / "cache" / "dfal" / kind.name).iterdir()) == []
    assert_right(kind)


def test_without_h5py_shoe_bag_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    monkeypatch.setattr(
        mapped,
        "fetch",
        lambda *_, **__: pytest.fail("nothing is downloaded before it is known to be of use"),
    )
    with pytest.raises(DfalError, match=r"pip install 'dfal\[hdf5\]'"):
        shoe_bag.load()


def test_a_file_of_the_cache_is_found_by_its_own_name(kind: ClassFiles, tmp_path: Path) -> None:
    files = publish(kind, tmp_path / "cache" / "dfal" / kind.name)
    assert all(find(kind.name, path.name) == path for path in files.values())
    assert_right(kind)
