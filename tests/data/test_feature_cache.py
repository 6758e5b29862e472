"""Features on the disk: a row counts only for the file that it was computed from."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfal.data.feature_cache import HEADER_BYTES, FeatureCache
from dfal.data.image_folder import Folder
from dfal.errors import DfalError

D = 5


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight grey images of 16 × 16 pixels; number i has the value i."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        Image.new("L", (16, 16), number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(folder: Folder, backbone: str = "net", weights: str = "w", side: int = 32) -> Any:
    return FeatureCache(folder, backbone, weights, (3, side, side), D)


def row_of(path: str) -> Any:
    """The features that a test gives a file."""
    return int(Path(path).stem) + np.arange(D, dtype=np.float32) / 4


def fill(cache: Any, folder: Folder, indices: list[int]) -> None:
    entries = [folder.entries[index] for index in indices]
    cache.write(indices, entries, np.stack([row_of(entry.path) for entry in entries]))


def assert_right(cache: Any, folder: Folder, indices: list[int]) -> None:
    """These are ready, no others, and each has the features of its file."""
    assert np.flatnonzero(cache.ready()).tolist() == indices
    assert [index for index in range(len(folder)) if cache.has(index)] == indices
    expected = [row_of(folder.paths[index]) for index in indices]
    assert np.array_equal(cache.rows(np.array(indices, int)), np.reshape(expected, (-1, D)))
    assert np.array_equal(cache.map[indices], np.reshape(expected, (-1, D)))


def test_what_is_written_is_there_at_once_and_after_a_restart(photos: Path, place: Path) -> None:
    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        assert_right(cache, folder, [])
        assert cache.rows(np.arange(8)).dtype == np.float32
        fill(cache, folder, [5, 2])
        assert_right(cache, folder, [2, 5])
        other = opened(folder)  # as another process would open it
        fill(other, folder, [7])
        for either in (cache, other):
            assert_right(either, folder, [2, 5, 7])
    with Folder.open(photos, place) as folder:
        assert_right(opened(folder), folder, [2, 5, 7])


def test_half_precision_holds_no_infinity(photos: Path, place: Path) -> None:
    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        cache.write([0], [folder.entries[0]], np.full((1, D), 1e6, np.float32))
        assert np.array_equal(cache.rows(np.array([0])), np.full((1, D), 65504))


def test_a_file_that_was_replaced_has_none_until_new_ones_are_written(
    photos: Path, place: Path
) -> None:
    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        fill(cache, folder, list(range(8)))
        before = folder.entries[3]
        Image.new("L", (16, 16), 200).save(photos / "3.png")
        os.utime(photos / "3.png", ns=(0, before.modified + 10**9))
        folder.image(3)  # the folder learns of it
        assert np.flatnonzero(~cache.ready()).tolist() == [3]
        assert not cache.has(3)
        cache.write([3], [before], row_of("9")[None])  # from the file that was there before
        assert not cache.has(3)
        fill(cache, folder, [3])
        assert_right(cache, folder, list(range(8)))
    with Folder.open(photos, place) as folder:
        assert opened(folder).ready().all()


@pytest.mark.parametrize(
    "other", [{"backbone": "net2"}, {"backbone": "hf:some/net"}, {"weights": "v"}, {"side": 48}]
)
def test_another_backbone_has_features_of_its_own(
    photos: Path, place: Path, other: dict[str, Any]
) -> None:
    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        fill(cache, folder, [1])
        assert_right(opened(folder, **other), folder, [])
        assert (opened(folder, **other).path == cache.path) == ("weights" in other)
        assert_right(cache, folder, [1])


def test_names_that_differ_only_in_what_files_cannot_have_are_two(
    photos: Path, place: Path
) -> None:
    with Folder.open(photos, place) as folder:
        paths = {opened(folder, name).path for name in ("hf:a/b", "hf/a:b", "hf-a-b", "x" * 300)}
        assert len(paths) == 4
        assert {path.parent for path in paths} == {folder.place}


@pytest.mark.parametrize("change", ["order", "size"])
def test_a_new_cache_of_the_folder_takes_the_features_of_the_old_one(
    photos: Path, place: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfal.data.feature_cache.ADOPTED_ROWS", 3)
    with Folder.open(photos, place) as folder:
        old = opened(folder)
        fill(old, folder, [0, 1, 2, 3, 5, 7])
        path = old.path
    os.utime(photos / "2.png", ns=(0, 0))
    options: Any = {"order": folder.paths[::-1]} if change == "order" else {"size": 8}
    with Folder.open(photos, place, **options) as folder:
        cache = opened(folder)
        assert cache.path != path
        kept = [folder.paths.index(f"{number}.png") for number in (0, 1, 3, 5, 7)]
        assert_right(cache, folder, sorted(kept))
        fill(cache, folder, list(range(8)))
        assert_right(cache, folder, list(range(8)))


def test_files_that_come_later_get_rows(photos: Path, place: Path) -> None:
    with Folder.open(photos, place) as before:
        cache = opened(before)
        fill(cache, before, [0, 7])
        Image.new("L", (16, 16), 9).save(photos / "10.png")
        with Folder.open(photos, place) as after:
            grown = opened(after)
            assert_right(grown, after, [0, 7])
            fill(grown, after, [8])
            assert_right(grown, after, [0, 7, 8])
        assert_right(cache, before, [0, 7])


@pytest.mark.parametrize(
    "damage", ["rows cut", "keys cut", "no keys", "no rows", "other keys", "empty keys"]
)
def test_damaged_files_are_begun_anew_beside_a_process_that_has_them_open(
    photos: Path, place: Path, damage: str
) -> None:
    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        fill(cache, folder, list(range(8)))
        keys = cache.path.with_suffix(".keys")
        if damage == "rows cut":
            # The process that has it open must not be hit: it has the old file.
            copy = cache.path.read_bytes()
            cache.path.unlink()
            cache.path.write_bytes(copy[: 7 * D * 2])
        elif damage == "keys cut":
            copy = keys.read_bytes()
            keys.unlink()
            keys.write_bytes(copy[: HEADER_BYTES + 3 * 8 + 2])
        elif damage in {"no keys", "no rows"}:
            (keys if damage == "no keys" else cache.path).unlink()
        else:
            keys.rename(keys.with_name("old"))
            keys.write_bytes(b"something else" * 20 if damage == "other keys" else b"")
        again = opened(folder)
        left = [0, 1, 2] if damage == "keys cut" else []
        assert_right(again, folder, left)
        fill(again, folder, [1, 4, 6])
        assert_right(again, folder, sorted({*left, 1, 4, 6}))
        cache.write([0], [folder.entries[0]], row_of("0.png")[None])
    with Folder.open(photos, place) as folder:
        assert {1, 4, 6} <= {*np.flatnonzero(opened(folder).ready()).tolist()}


def test_a_full_disk_is_one_sentence_and_nothing_is_called_ready(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with Folder.open(photos, place) as folder:
        cache = opened(folder)
        fill(cache, folder, [1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DfalError, match=r"the features .*No space left on device.*free"):
                fill(cache, folder, [2, 3])
        assert_right(cache, folder, [1])
        fill(cache, folder, [2, 3])
        assert_right(cache, folder, [1, 2, 3])


def test_no_room_and_no_permission_are_one_sentence(photos: Path, place: Path) -> None:
    code = (
        "import resource, sys\n"
        "from dfal.data.feature_cache import FeatureCache\n"
        "from dfal.data.image_folder import Folder\n"
        "folder = Folder.open(sys.argv[1], sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "FeatureCache(folder, 'net', 'w', (3, 32, 32), 5000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, photos, place], capture_output=True, text=True, check=False
    )
    assert "DfalError: the features " in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    with Folder.open(photos, place) as folder:
        (folder.place / "features-third-3x32x32.lock").mkdir()
        with pytest.raises(DfalError, match=r"the features .*cannot be written \(Is a directory\)"):
            opened(folder, "third")


KILLED = """
import sys
import numpy as np
from dfal.data.feature_cache import FeatureCache
from dfal.data.image_folder import Folder
folder = Folder.open(sys.argv[1], sys.argv[2])
cache = FeatureCache(folder, "net", "w", (3, 32, 32), 5)
rng = np.random.default_rng()
while True:
    indices = rng.permutation(8)[:3]
    entries = [folder.entries[index] for index in indices]
    rows = [int(entry.path[0]) + np.arange(5, dtype=np.float32) / 4 for entry in entries]
    cache.write(indices, entries, np.stack(rows))
    print(flush=True)
"""


def test_two_that_write_at_once_and_are_killed_leave_only_right_rows(
    photos: Path, place: Path
) -> None:
    for turn in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", KILLED, photos, place], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            for _ in range(5 + turn):
                process.stdout.readline()
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        with Folder.open(photos, place) as folder:
            cache = opened(folder)
            ready = np.flatnonzero(cache.ready()).tolist()
            assert len(ready) >= 3
            assert_right(cache, folder, ready)
