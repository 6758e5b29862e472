"""Decodes the images of a folder in the background, on several threads, and tries again."""

import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from dfal.data.decode_cache import READY, TO_DO, Cache, Decoded
from dfal.data.folder_files import FolderFiles, Result, named
from dfal.data.image_files import Unavailable
from dfal.data.listing import GONE, Entry

WRITE_BATCH = 256
"""Images written with one flush to the disk, at most."""
WRITE_INTERVAL = 0.5
"""Seconds after which decoded images are written, however few they are."""
RETRY_SECONDS = 10.0
"""Seconds without progress for which `decode` tries again what cannot be read just now."""
FIRST_PAUSE = 0.25
"""Seconds before the first of these attempts; before each further one twice as many."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts, at most."""
MEMORY_ATTEMPTS = 3
"""Attempts after which a file is left alone that there is not enough memory for."""


@runtime_checkable
class ImageConsumer(Protocol):
    """Takes the images of a folder in a size of its own, from the same decoding as the cache.

    `wants` and `take` are called on the threads that decode. What `arrange`, `take` or `wait`
    raises ends the decoding.

    Attributes:
        shape: height, width and channels of what it takes.
    """

    shape: tuple[int, int, int]

    def wants(self, index: int) -> bool:
        """Return whether it has yet to take an image."""

    def arrange(self, to_do: list[int]) -> Iterator[int]:
        """Yield these images in the order that is wanted by then."""

    def take(self, index: int, entry: Entry, result: UInt8[np.ndarray, "h w c"] | str) -> None:
        """Take an image.

        Args:
            index: of the image.
            entry: its file as it was read.
            result: its pixels, or the reason why there are none.
        """

    def wait(self, seconds: float) -> None:
        """Wait before what cannot be read just now is tried again."""


class BackgroundDecoding:
    """Decodes the images of a folder into its cache.

    Args:
        cache: of the folder.
        files: of the folder.

    Attributes:
        delayed: index → failed attempts and the last error, of the images that cannot be read just
            now and are tried again.
    """

    def __init__(self, cache: Cache, files: FolderFiles):
        self._cache, self._files = cache, files
        self.delayed: dict[int, tuple[int, Unavailable]] = {}

    def run(
        self,
        order: Iterable[int],
        workers: int,
        patience: float | None,
        consumer: ImageConsumer | None,
    ) -> Generator[int]:
        """Decode as `Folder.decode` says."""
        patience = RETRY_SECONDS if patience is None else patience
        order = list(dict.fromkeys([*order, *range(len(self._cache.entries))]))
        self._cache.refresh()
        state = self._cache.state
        returned = [
            index
            for index in self._cache.gone()
            if self._files.exists(self._cache.entries[index].path)
        ]

        def is_wanted(index: int) -> bool:
            return consumer is not None and state[index] == READY and consumer.wants(index)

        to_do = [index for index in order if state[index] == TO_DO or is_wanted(index)] + returned
        self.delayed = {}
        pause, progress = FIRST_PAUSE, time.monotonic()
        yield self._done()
        while True:
            before = len(to_do)
            yield from self._decode_once(to_do, workers, consumer)
            to_do = [index for index in to_do if self._is_to_retry(index)]
            if len(to_do) < before:
                pause, progress = FIRST_PAUSE, time.monotonic()
            if not to_do or time.monotonic() - progress >= patience:
                break
            consumer.wait(pause) if consumer else time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            # Files that changed meanwhile have no features.
            to_do += [index for index in order if is_wanted(index)] if consumer else []
            yield self._done()

    def _done(self) -> int:
        return int((self._cache.state != TO_DO).sum())

    def _is_to_retry(self, index: int) -> bool:
        count, error = self.delayed.get(index, (0, None))
        return error is not None and (count < MEMORY_ATTEMPTS or not error.memory)

    def _decode_once(
        self, to_do: list[int], workers: int, consumer: ImageConsumer | None
    ) -> Generator[int]:
        """Decode each of these images that was not decoded in the meantime."""
        state = self._cache.state
        waiting = consumer.arrange(to_do) if consumer else iter(to_do)
        unwritten: list[Decoded] = []
        pool = ThreadPoolExecutor(workers, "decode")
        running: set[Future[Decoded | None]] = set()
        flushed = time.monotonic()
        try:
            while True:
                for index in waiting:
                    if state[index] != READY or (consumer and consumer.wants(index)):
                        running.add(pool.submit(self._attempt, index, consumer))
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    break
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                unwritten += [
                    image for future in finished if (image := future.result()) is not None
                ]
                if len(unwritten) >= WRITE_BATCH or time.monotonic() - flushed > WRITE_INTERVAL:
                    self._cache.write(unwritten)
                    unwritten, flushed = [], time.monotonic()
                    yield self._done()
            self._cache.write(unwritten)
            unwritten = []
            yield self._done()
        finally:
            pool.shutdown(cancel_futures=True)
            self._cache.write(unwritten)

    def _attempt(self, index: int, consumer: ImageConsumer | None) -> Decoded | None:
        """Decode an image, whatever may be wrong with it.

        Returns:
            None where it cannot be read just now, or was decoded before, for the consumer alone.
        """
        before = self._cache.entries[index] if self._cache.state[index] == READY else None
        large = None
        path = self._cache.entries[index].path
        try:
            entry = self._files.entry(path)
            if entry is None:
                result: Result = GONE
            elif consumer and consumer.wants(index):
                result, large = self._files.pixels_of_two_sizes(path, consumer.shape)
            else:
                result = self._files.pixels(path)
        except Unavailable as error:
            if not before:
                count, _ = self.delayed.get(index, (0, None))
                self.delayed[index] = count + 1, named(error, path)
            return None
        entry = entry or self._cache.entries[index]
        if consumer and large is not None:
            if entry == before or isinstance(result, np.ndarray):
                consumer.take(index, entry, large)
            if entry == before:
                return None
        self.delayed.pop(index, None)
        return Decoded(index, entry, result)
