"""Compute the features of a session's images in the background, from one decoding of each file."""

import contextlib
import copy
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from numpy.typing import NDArray
from torch import nn

from dfal.backbones.base import Backbone, reduced_precision
from dfal.data.feature_cache import FeatureCache
from dfal.data.image_folder import Folder
from dfal.data.listing import Entry
from dfal.errors import DfalError, Stopped
from dfal.plugins import describe_exception
from dfal.processes import available_cores

BATCH = 8
"""Images of a batch on the CPU. Larger ones take more memory and no less time."""
GPU_BATCH = 64
"""Images of a batch on a GPU."""
MAX_BATCHES = 4
"""Batches that are computed at a time, whatever the number of cores: each takes memory."""
POLL_SECONDS = 1.0
"""Seconds between two looks for files that changed, where there is nothing to do."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the next attempt where something fails; after each further one twice as many."""
NICENESS = 10
"""Of the threads that decode and compute: training and ranking, and the page, come first."""
FEATURES_VERSION = 1
"""To be raised where the same image and weights give other features than before."""


@dataclass(frozen=True)
class ExtractionProgress:
    """How far the features are.

    Attributes:
        done: images whose features are there.
        total: images that can be read, as far as it is known.
    """

    done: int
    total: int


class LargeImage(NamedTuple):
    """An image in the size of the backbone.

    Attributes:
        image_index: of the image.
        entry: its file as it was read.
        pixels: height, width, channels.
    """

    image_index: int
    entry: Entry
    pixels: UInt8[np.ndarray, "h w c"]


class FeatureExtraction:
    """Decodes the images of a folder into its cache, and computes their features on the way.

    Several threads decode. The one that fills a batch computes its features, so that there are
    never more large images in memory than batches are computed, and each core has work. Images
    whose pixels are in the folder's cache already are decoded for their features alone.

    Args:
        folder: the images.
        backbone: computes the features.
        cache: of this folder and backbone: see `feature_cache`.
        device: where the backbone runs, as PyTorch names it.
        workers: threads; by default one for each core that this process may use.
        on_error: is called with one sentence where something fails; the extraction resumes.
    """

    def __init__(
        self,
        folder: Folder,
        backbone: Backbone,
        cache: FeatureCache,
        *,
        device: str = "cpu",
        workers: int | None = None,
        on_error: Callable[[str], None] = lambda sentence: None,
    ):
        c, h, w = backbone.image
        self.shape = (h, w, c)
        self._folder, self._backbone, self._cache = folder, backbone, cache
        self._device = torch.device(device)
        self._network = _placed(backbone.network, self._device)
        self._workers = workers or available_cores()
        on_cpu = self._device.type == "cpu"
        self._batch_size = BATCH if on_cpu else GPU_BATCH
        at_once = min(self._workers, MAX_BATCHES) if on_cpu else 1
        self._turns = threading.Semaphore(at_once)
        self._threads_each = max(1, self._workers // (2 * at_once))
        self._prepared = threading.local()
        self._stopping = threading.Event()
        self._preferred = deque[int]()
        self._lock = threading.Lock()
        self._batch: list[LargeImage] = []
        self._computed: list[tuple[LargeImage, NDArray[np.float32]]] = []
        self._in_progress: set[int] = set()
        self._refused: dict[int, Entry] = {}
        self._failures = _Failures(on_error)
        self._written = 0

    def prefer(self, indices: Iterable[int]) -> None:
        """Compute the features of these images next, in this order, instead of earlier ones."""
        self._preferred = deque(indices)

    def progress(self) -> ExtractionProgress:
        """Return how many features there are, of how many."""
        readable = self._readable()
        return ExtractionProgress(int((self._cache.ready() & readable).sum()), int(readable.sum()))

    def stop(self) -> None:
        """Make `run` end: within a second, where no image takes longer to be decoded."""
        self._stopping.set()

    def run(self, order: Iterable[int] = (), *, forever: bool = True) -> Generator[None]:
        """Decode and compute what is missing, until it is stopped.

        What is written survives when the process is killed. Files that cannot be read just now are
        tried again, and files that changed get new features.

        Args:
            order: indices to begin with, behind those that are preferred; the others follow by
                index.
            forever: whether to wait for other files, and for room on the disk, once all is done or
                fails. Otherwise this ends then.

        Yields:
            Nothing, each time something may have been decoded or written.
        """
        order = list(order)
        patience = math.inf if forever else None
        pause = POLL_SECONDS
        try:
            while True:
                before = self._written
                try:
                    decoding = self._folder.decode(order, self._workers, patience, self)
                    with contextlib.closing(decoding):
                        for _ in decoding:
                            self._write()
                            yield
                    self._finish()
                    yield
                except DfalError as error:  # of the folder's own cache
                    self._failures.add(error)
                if not forever:
                    return
                pause = POLL_SECONDS if self._written > before else min(2 * pause, LONGEST_PAUSE)
                self.wait(max(pause, self._failures.seconds_left()))
                while not self._is_work_left():
                    self.wait(POLL_SECONDS)
        except Stopped:
            pass
        finally:
            self._stopping.set()
            self._write()

    def wants(self, index: int) -> bool:
        """Return whether the features of an image are missing and can be computed."""
        return (
            index not in self._in_progress
            and self._refused.get(index) != self._folder.entries[index]
            and not self._failures.seconds_left()
            and not self._cache.has(index)
        )

    def arrange(self, to_do: list[int]) -> Iterator[int]:
        """Yield images, those first that are preferred by then.

        Raises:
            Stopped: where it is.
        """
        pending = set(to_do)
        for index in to_do:
            preferred = self._preferred
            while preferred or index in pending:
                if self._stopping.is_set():
                    raise Stopped
                upcoming = preferred.popleft() if preferred else index
                if upcoming in pending:
                    pending.remove(upcoming)
                    yield upcoming
                preferred = self._preferred

    def take(self, index: int, entry: Entry, result: UInt8[np.ndarray, "h w c"] | str) -> None:
        """Compute the features of a batch, where an image completes one.

        Raises:
            Stopped: where it is.
        """
        if self._stopping.is_set():
            raise Stopped
        if not isinstance(result, np.ndarray):
            self._refused[index] = entry
            return
        self._prepare_thread()
        with self._lock:
            self._in_progress.add(index)
            self._batch.append(LargeImage(index, entry, result))
            batch = self._batch if len(self._batch) >= self._batch_size else []
            self._batch = [] if batch else self._batch
        self._compute(batch)

    def wait(self, seconds: float) -> None:
        """Finish what was begun, and wait.

        Raises:
            Stopped: where it is.
        """
        self._finish()
        if self._stopping.wait(seconds):
            raise Stopped

    def _is_work_left(self) -> bool:
        is_done = self._folder.ready() & self._cache.ready()
        return bool((self._readable() & ~is_done).any())

    def _readable(self) -> Bool[np.ndarray, "n"]:
        """Return which images are not set aside, here or by the folder."""
        readable = ~self._folder.is_set_aside()
        for index, entry in self._refused.copy().items():
            readable[index] &= entry != self._folder.entries[index]
        return readable

    def _prepare_thread(self) -> None:
        """Give this thread its priority and its share of the cores."""
        if getattr(self._prepared, "is_done", False):
            return
        self._prepared.is_done = True
        torch.set_num_threads(self._threads_each)  # of this thread alone
        if sys.platform == "linux":  # where each thread has a priority of its own
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):
                niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
                os.setpriority(os.PRIO_PROCESS, thread, niceness)

    def _finish(self) -> None:
        """Compute the features of what is no full batch, and write all."""
        with self._lock:
            batch, self._batch = self._batch, []
        self._compute(batch)
        self._write()

    def _compute(self, batch: list[LargeImage]) -> None:
        if not batch:
            return
        try:
            with self._turns:
                if self._stopping.is_set():
                    raise Stopped
                rows = self._features(batch)
        except Stopped:
            raise
        except Exception as error:  # the network may be the user's, the memory full
            self._give_up(batch, error)
            return
        with self._lock:
            self._computed += zip(batch, rows, strict=True)

    def _features(self, batch: list[LargeImage]) -> Float32[np.ndarray, "b d"]:
        """Return the features of a batch.

        Raises:
            DfalError: where they are not as the backbone says, or not finite.
        """
        pixels = torch.from_numpy(np.stack([image.pixels for image in batch])).to(self._device)
        # The channels are last in memory, as networks take them best.
        with torch.inference_mode(), reduced_precision(self._network, pixels.device):
            out = self._network(pixels.permute(0, 3, 1, 2).float().div_(255))
        rows: NDArray[np.float32] = out.float().cpu().numpy()
        if rows.shape != (len(batch), self._backbone.features):
            shape = ", ".join(map(str, rows.shape[1:]))
            raise DfalError(
                f"the backbone {self._backbone.name} returned features of shape (n, {shape}), but"
                f" (n, {self._backbone.features}) is needed"
            )
        if not np.isfinite(rows).all():
            raise DfalError(
                f"the backbone {self._backbone.name} returned features that are not finite: choose"
                " another one"
            )
        return rows

    def _write(self) -> None:
        with self._lock:
            computed, self._computed = self._computed, []
        if not computed:
            return
        images = [image for image, _ in computed]
        try:
            self._cache.write(
                [image.image_index for image in images],
                [image.entry for image in images],
                np.stack([row for _, row in computed]),
            )
        except DfalError as error:
            self._give_up(images, error)
            return
        self._failures.clear()
        self._written += len(images)
        self._in_progress.difference_update(image.image_index for image in images)

    def _give_up(self, images: list[LargeImage], error: Exception) -> None:
        """Leave images for another attempt. Meanwhile files are decoded without features."""
        self._failures.add(error)
        self._in_progress.difference_update(image.image_index for image in images)


class _Failures:
    """Says each failure once, and when to try again.

    Args:
        on_error: is called with one sentence.
    """

    def __init__(self, on_error: Callable[[str], None]):
        self._on_error, self._said = on_error, ""
        self._pause, self._until = FIRST_PAUSE, 0.0

    def add(self, error: Exception) -> None:
        """Say a failure, and wait longer than after the one before."""
        sentence = str(error)
        if not isinstance(error, DfalError):
            sentence = f"the features cannot be computed ({describe_exception(error)})"
        if sentence != self._said:
            self._said = sentence
            self._on_error(sentence)
        if not self.seconds_left():  # otherwise it is the same failure, of another batch
            self._until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def clear(self) -> None:
        """Forget all failures, since something worked."""
        self._said, self._pause, self._until = "", FIRST_PAUSE, 0.0

    def seconds_left(self) -> float:
        """Return the seconds until the next attempt."""
        return max(0.0, self._until - time.monotonic())


def open_features(folder: Folder, backbone: Backbone) -> FeatureCache:
    """Open the features that a backbone gives of a folder's images.

    Raises:
        DfalError: where the cache cannot be written.
    """
    weights = f"{FEATURES_VERSION} {backbone.digest()}"
    return FeatureCache(folder, backbone.name, weights, backbone.image, backbone.features)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network on a device; the one that was given stays where it is."""
    if device.type == "cpu":
        return network
    placed: nn.Module = copy.deepcopy(network).to(device)
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
