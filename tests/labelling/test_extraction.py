"""Features in the background: each once, from one decoding, whatever happens meanwhile."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dfal.backbones.base import Backbone
from dfal.data import folder_files
from dfal.data.image_files import fitted, fitted_sizes
from dfal.data.image_folder import Folder
from dfal.data.listing import GONE
from dfal.labelling.learning import extraction
from dfal.labelling.learning.extraction import FeatureExtraction, open_features


class Corners(nn.Module):
    """Four pixels of the image, and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.weight * images[:, 0, 8:24:10, 8:24:10].flatten(1)


def corners(side: int = 32) -> Backbone:
    return Backbone("corners", Corners(), (3, side, side), 4)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty photographs, each its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        photograph(folder / f"{number:02}.jpg", number)
    return folder


def photograph(path: Path, number: int, side: int = 200) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((side * 3 // 2, side)).save(path, quality=90)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded for features, in that order."""
    names: list[str] = []

    def decode(path: Path, shapes: Any) -> Any:
        names.append(path.name)
        return fitted_sizes(path, shapes)

    monkeypatch.setattr(folder_files, "fitted_sizes", decode)
    return names


def extract(folder: Folder, backbone: Backbone | None = None, **options: Any) -> Any:
    """Compute all features; return the cache and what failed."""
    backbone = backbone or corners()
    cache = open_features(folder, backbone)
    errors: list[str] = []
    extraction = FeatureExtraction(folder, backbone, cache, on_error=errors.append, **options)
    for _ in extraction.run(forever=False):
        pass
    return cache, errors


def assert_right(folder: Folder, cache: Any, count: int) -> None:
    """So many features are there, and are those of the image as `fitted` makes it."""
    ready = np.flatnonzero(cache.ready())
    assert len(ready) == count
    for index in ready.tolist():
        seen = torch.from_numpy(fitted(folder.path / folder.paths[index], (32, 32), 3) / 255)
        expected = corners().network(seen.permute(2, 0, 1)[None].float()).detach()
        assert np.allclose(cache.rows(np.array([index])), expected, atol=1e-3)


def test_one_decoding_gives_both_the_small_image_and_the_features(
    photos: Path, place: Path, decodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_files, "fitted", lambda *arguments: pytest.fail("decoded twice"))
    with Folder.open(photos, place, size=8) as folder:
        cache, errors = extract(folder)
        assert (sorted(decodes), errors) == (list(folder.paths), [])
        assert folder.ready().all()
        for index, path in enumerate(folder.paths):
            alone = fitted(photos / path, (8, 8), 3)
            assert np.abs(folder.image(index).astype(int) - alone).mean() < 4
        assert_right(folder, cache, 20)
        extract(folder)
        assert len(decodes) == 20  # nothing is left to do


def test_images_that_are_decoded_already_keep_their_pixels(
    photos: Path, place: Path, decodes: list[str]
) -> None:
    with Folder.open(photos, place, size=8) as folder:
        for _ in folder.decode():
            pass
        assert not decodes
        before = folder.images.array.copy()
        cache, _ = extract(folder)
        assert len(decodes) == 20
        assert_right(folder, cache, 20)
        assert np.array_equal(folder.images.array, before)
    with Folder.open(photos, place, size=9) as folder:  # a new size: the features are there
        cache, _ = extract(folder)
        assert len(decodes) == 20
        assert folder.ready().all()
        assert_right(folder, cache, 20)


def test_only_what_changed_gets_new_features(photos: Path, place: Path, decodes: list[str]) -> None:
    with Folder.open(photos, place, size=8) as folder:
        extract(folder)
    photograph(photos / "07.jpg", 99)
    os.utime(photos / "07.jpg", ns=(0, 10**18))
    photograph(photos / "20.jpg", 20)
    decodes.clear()
    with Folder.open(photos, place, size=8) as folder:
        cache, _ = extract(folder)
        assert sorted(decodes) == ["07.jpg", "20.jpg"]
        assert_right(folder, cache, 21)
        decodes.clear()
        extract(folder, corners(side=48))
        assert len(decodes) == 21
        decodes.clear()
        other = corners()
        other.network.load_state_dict({"weight": torch.full((1,), 2.0)})
        extract(folder, other)
        assert len(decodes) == 21


def test_a_file_that_changes_while_it_runs_gets_new_features(photos: Path, place: Path) -> None:
    with Folder.open(photos, place, size=8) as folder:
        backbone = corners()
        cache = open_features(folder, backbone)
        running = FeatureExtraction(folder, backbone, cache)
        thread = threading.Thread(target=lambda: [*running.run()])
        thread.start()
        wait_until(lambda: cache.ready().all())
        photograph(photos / "03.jpg", 77)
        os.utime(photos / "03.jpg", ns=(0, 10**18))
        folder.image(3)
        assert not cache.ready()[3]
        wait_until(lambda: cache.ready().all())
        running.stop()
        thread.join(2)
        assert not thread.is_alive()
        assert_right(folder, cache, 20)


def wait_until(happens: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_preferred_comes_first_and_may_change_while_it_runs(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes: list[str] = []
    with Folder.open(photos, place, size=8) as folder:
        backbone = corners()
        running = FeatureExtraction(folder, backbone, open_features(folder, backbone), workers=1)

        def decode(path: Path, shapes: Any) -> Any:
            if len(decodes) == 4:
                running.prefer([2, 19, 9, 2])
            decodes.append(path.name)
            return fitted_sizes(path, shapes)

        monkeypatch.setattr(folder_files, "fitted_sizes", decode)
        running.prefer([5, 15])
        for _ in running.run([9, 8, 7, 6], forever=False):
            pass
        assert decodes[:4] == ["05.jpg", "15.jpg", "09.jpg", "08.jpg"]
        # Two are on their way when the preference changes.
        assert {"02.jpg", "19.jpg"} <= set(decodes[4:8])
        assert sorted(decodes) == list(folder.paths)


def test_it_stops_within_a_second_and_resumes(
    photos: Path, place: Path, decodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "BATCH", 2)
    stopped = threading.Event()

    class Slow(Corners):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            stopped.wait(1)
            return super().forward(images)

    with Folder.open(photos, place, size=8) as folder:
        backbone = Backbone("corners", Slow(), (3, 32, 32), 4)
        cache = open_features(folder, backbone)
        running = FeatureExtraction(folder, backbone, cache)
        thread = threading.Thread(target=lambda: [*running.run()])
        thread.start()
        wait_until(lambda: cache.ready().sum() >= 4)
        start = time.monotonic()
        running.stop()
        stopped.set()  # a batch that was begun is finished
        thread.join(10)
        assert time.monotonic() - start < 1
        done = int(cache.ready().sum())
        assert 4 <= done < 20
        assert_right(folder, cache, done)
        decodes.clear()
        cache, _ = extract(folder, backbone)
        assert len(decodes) == 20 - done
        assert_right(folder, cache, 20)


def test_progress_counts_what_can_be_read(photos: Path, place: Path) -> None:
    (photos / "30.jpg").write_bytes(b"hello")
    with Folder.open(photos, place, size=8) as folder:
        backbone = corners()
        running = FeatureExtraction(folder, backbone, open_features(folder, backbone))
        assert running.progress() == extraction.ExtractionProgress(0, 21)
        for _ in running.run(forever=False):
            pass
        assert running.progress() == extraction.ExtractionProgress(20, 20)
        assert "30.jpg" in folder.set_aside()


def test_a_network_that_fails_holds_up_no_decoding_and_is_tried_again(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "FIRST_PAUSE", 0.2)

    class Failing(Corners):
        fails = True

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.fails:
                raise RuntimeError("no memory for it")
            return super().forward(images)

    with Folder.open(photos, place, size=8) as folder:
        backbone = Backbone("corners", network := Failing(), (3, 32, 32), 4)
        cache = open_features(folder, backbone)
        errors: list[str] = []
        running = FeatureExtraction(folder, backbone, cache, on_error=errors.append)
        thread = threading.Thread(target=lambda: [*running.run()])
        thread.start()
        wait_until(lambda: folder.ready().all())
        assert not cache.ready().any()
        assert len(errors) == 1
        assert errors[0].startswith("the features cannot be computed (RuntimeError: no memory")
        network.fails = False
        wait_until(lambda: cache.ready().all())
        running.stop()
        thread.join(2)
        assert_right(folder, cache, 20)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            lambda images: images.new_zeros(len(images), 3),
            r"of shape \(n, 3\), but \(n, 4\) is needed",
        ),
        (lambda images: images.new_full((len(images), 4), torch.nan), "that are not finite"),
    ],
)
def test_features_that_are_none_are_one_sentence(
    photos: Path, place: Path, returned: Any, sentence: str
) -> None:
    class Wrong(Corners):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = returned(images)
            return made

    with Folder.open(photos, place, size=8) as folder:
        cache, errors = extract(folder, Backbone("wrong", Wrong(), (3, 32, 32), 4))
        assert not cache.ready().any()
        assert len(errors) == 1
        assert re.search(f"the backbone wrong returned .*{sentence}", errors[0])
        assert folder.ready().all()


def test_a_full_disk_is_said_once_and_all_is_there_when_there_is_room(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(extraction, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(extraction, "LONGEST_PAUSE", 0.2)
    flush, is_full = os.fsync, True

    def fsync(descriptor: int) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    with Folder.open(photos, place, size=8) as folder:
        backbone = corners()
        cache = open_features(folder, backbone)
        errors: list[str] = []
        running = FeatureExtraction(folder, backbone, cache, on_error=errors.append)
        monkeypatch.setattr(os, "fsync", fsync)
        thread = threading.Thread(target=lambda: [*running.run()])
        thread.start()
        wait_until(lambda: errors)
        time.sleep(0.5)
        assert all("No space left on device" in error for error in errors)
        assert not cache.ready().any()
        is_full = False
        wait_until(lambda: cache.ready().all())
        running.stop()
        thread.join(2)
        assert folder.ready().all()
        assert_right(folder, cache, 20)


def test_files_that_are_away_keep_their_pixels_and_what_is_gone_is_set_aside(
    photos: Path, place: Path
) -> None:
    with Folder.open(photos, place, size=8) as folder:
        for _ in folder.decode():
            pass
        photos.rename(photos.with_name("away"))
        cache, errors = extract(folder)
        assert (errors, folder.delayed(), folder.set_aside()) == ([], {}, {})
        assert folder.ready().all()
        photos.with_name("away").rename(photos)
        (photos / "04.jpg").unlink()
        (photos / "05.jpg").write_bytes(b"hello")
        cache, _ = extract(folder)
        assert folder.set_aside().keys() == {"04.jpg", "05.jpg"}
        assert folder.set_aside()["04.jpg"] == GONE
        assert_right(folder, cache, 18)


def test_two_extractions_at_once_are_harmless(photos: Path, place: Path) -> None:
    with Folder.open(photos, place, size=8) as one, Folder.open(photos, place, size=8) as two:
        threads = [threading.Thread(target=extract, args=(folder,)) for folder in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for folder in (one, two):
            assert_right(folder, open_features(folder, corners()), 20)


KILLED = """
import sys
sys.path.insert(0, sys.argv[3])
from test_extraction import corners, extraction, FeatureExtraction, Folder, open_features
extraction.BATCH = 2
folder = Folder.open(sys.argv[1], sys.argv[2], size=8)
cache = open_features(folder, corners())
print(cache.ready().sum(), flush=True)
from dfal.data import background_decoding
background_decoding.WRITE_INTERVAL = 0.0
for _ in FeatureExtraction(folder, corners(), cache).run(forever=False):
    print(cache.ready().sum(), flush=True)
"""


def test_killed_again_and_again_it_computes_only_what_is_missing(
    photos: Path, place: Path, decodes: list[str]
) -> None:
    last = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, photos, place, Path(__file__).parent],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= last  # nothing that was written is lost
        end = last + 4
        while last < end and (line := process.stdout.readline()):
            last = int(line)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with Folder.open(photos, place, size=8) as folder:
        before = int(open_features(folder, corners()).ready().sum())
        assert before >= last > 0
        assert_right(folder, open_features(folder, corners()), before)
        cache, _ = extract(folder)
        assert len(decodes) == 20 - before
        assert_right(folder, cache, 20)


def test_no_more_large_images_are_in_memory_than_batches(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the network is slower than the decoding."""
    monkeypatch.setattr(extraction, "BATCH", 3)
    monkeypatch.setattr(extraction, "MAX_BATCHES", 1)
    counts: list[int] = []
    decoded = computed = 0
    lock = threading.Lock()

    def decode(path: Path, shapes: Any) -> Any:
        nonlocal decoded
        with lock:
            decoded += 1
            counts.append(decoded - computed)
        return fitted_sizes(path, shapes)

    class Slow(Corners):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nonlocal computed
            time.sleep(0.05)
            with lock:
                computed += len(images)
            return super().forward(images)

    monkeypatch.setattr(folder_files, "fitted_sizes", decode)
    with Folder.open(photos, place, size=8) as folder:
        extract(folder, Backbone("corners", Slow(), (3, 32, 32), 4), workers=3)
    assert max(counts) <= 3 * 3 + 3
