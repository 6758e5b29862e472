"""A folder of images: listed at once, decoded once, in the background, into a memory map at the network's size."""

import hashlib
import os
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import platformdirs
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image

from dfal.cache import READY, TO_DO, Cache, Found
from dfal.images import Images
from dfal.listing import GONE, Entry, Listing, from_csv, from_folders, natural
from dfal.pictures import decoded, fitted
from dfal.types import DfalError

TOGETHER = 256
"""Images written with one flush to the disk, at most."""
WAIT = 0.5
"""Seconds after which what is decoded is written, however little it is."""


class Folder:
    """The images of a folder and its sub-folders, by index.

    An index never changes while the cache stays: files that come later get the next ones, files that vanish keep theirs
    and are set aside. Threads may share a Folder, and processes a cache.

    Attributes:
        path: the folder.
        paths: of each image, relative to it, with "/"; sorted, but for files that came later.
        shape: height, width and channels of what `image` gives.
        known: index → class, of the images whose class a CSV or the first sub-folder names.
        others: how many files of other kinds there are, by ending.
    """

    def __init__(self, path: Path, cache: Path, shape: tuple[int, int, int], listing: Listing, labels: Path | None):
        self.path, self.shape = path, shape
        self._unreadable, self.others = listing.unreadable, listing.others
        self._cache = Cache(cache, shape, listing.entries)
        self.paths = tuple(entry.path for entry in self._cache.entries)
        try:
            self.known = from_csv(labels, path, self.paths) if labels else from_folders(self.paths)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | Path,
        cache: str | Path | None = None,
        size: int | None = None,
        channels: int | None = None,
        labels: str | Path | None = None,
    ) -> "Folder":
        """List a folder, and go on with its cache where there is one. Nothing is decoded yet.

        Args:
            path: the folder.
            cache: where to keep what is decoded; by default in the user's cache.
            size: side of the square that a network sees; by default the images' own, if a sample of them is square, alike and
                not larger than `OWN`, else `SIZE`.
            channels: 1 or 3; by default 1 where the sample is grey.
            labels: a CSV with the columns path and label; by default the names of the first sub-folders are the classes.

        Raises:
            DfalError: for a folder that is not there or holds no image, a bad CSV, a cache that cannot be written.
        """
        if size is not None and size < 1:
            raise DfalError(f"size = {size} is no number of pixels: give 1 or more")
        if channels not in (None, 1, 3):
            raise DfalError(f"channels = {channels} is neither 1 (grey) nor 3 (colour)")
        folder = Path(path)
        listing = Listing.of(folder)
        if size is None or channels is None:
            own, seen = natural(folder, listing.entries)
            size, channels = size or own, channels or seen
        root = Path(cache) if cache else Path(platformdirs.user_cache_dir("dfal")) / "folders" / _name(folder)
        shape = (size, size, channels)
        return cls(folder, root / "x".join(map(str, shape)), shape, listing, Path(labels) if labels else None)

    @property
    def place(self) -> Path:
        """Where the cache lies."""
        return self._cache.place

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r}, {len(self)} × {self.shape})"

    @property
    def images(self) -> Images:
        """All images, channels first, as a live memory map: rows that are not `ready` are zeros."""
        return Images(self._cache.raw)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Which images are decoded, here or by another process."""
        self._cache.refresh()
        return np.equal(self._cache.state, READY)

    def set_aside(self) -> dict[str, str]:
        """The files that could not be read so far, each with the reason; sub-folders too."""
        return self._unreadable | self._cache.reasons()

    def file(self, index: int) -> Path:
        """The original of an image.

        Raises:
            DfalError: where it is no longer there.
        """
        self._entry(index)
        return self.path / self.paths[index]

    def original(self, index: int) -> Image.Image:
        """The original in full size, as every browser can show it: 8 bits, grey or colour, turned as its EXIF data say.

        Raises:
            DfalError: where it cannot be read.
        """
        try:
            return decoded(self.file(index))
        except ValueError as error:
            raise error if isinstance(error, DfalError) else DfalError(f"{self.paths[index]}: {error}") from None

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """An image as the network sees it: decoded now if it is not yet, or if its file has changed.

        Raises:
            DfalError: where it cannot be read, with the reason.
        """
        now = self._entry(index)
        before, state, reason = self._cache.look(index)
        if now == before and state == READY:
            return self._cache.row(index)
        if now != before or reason is None or reason == GONE:
            result = self._decode(now)
            self._cache.keep([(index, now, result)])
            if isinstance(result, np.ndarray):
                return self._cache.row(index)
            reason = result
        raise DfalError(f"{self.paths[index]} is set aside: {reason}")

    def decode(self, order: Iterable[int] | None = None, workers: int | None = None) -> Generator[int]:
        """Decode everything that is not yet, on several threads, and say after each part how many images are dealt with.

        A killed process loses no more than the part in flight. Closing the iterator stops it.

        Args:
            order: indices to begin with; the others follow by index.
            workers: threads; by default one for each core that this process may use.
        """
        workers = workers or _cores()
        order = list(dict.fromkeys([*(order or ()), *range(len(self))]))
        self._cache.refresh()
        state = self._cache.state
        waiting = iter([index for index in order if state[index] == TO_DO])
        found: list[Found] = []
        pool = ThreadPoolExecutor(workers, "decode")
        running: set[Future[Found]] = set()
        flushed = time.monotonic()
        try:
            yield int((state != TO_DO).sum())
            while True:
                for index in waiting:
                    if state[index] == TO_DO:  # nobody asked for it in the meantime
                        running.add(pool.submit(self._attempt, index))
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    break
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                found += [one.result() for one in finished]
                if len(found) >= TOGETHER or time.monotonic() - flushed > WAIT:
                    self._cache.keep(found)
                    found, flushed = [], time.monotonic()
                    yield int((state != TO_DO).sum())
            self._cache.keep(found)
            found = []
            yield int((state != TO_DO).sum())
        finally:
            pool.shutdown(cancel_futures=True)
            self._cache.keep(found)

    def close(self) -> None:
        """Close the cache. What is decoded is there at the next opening."""
        self._cache.close()

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entry(self, index: int) -> Entry:
        """The file as it is now; where it has vanished it is set aside."""
        if not 0 <= index < len(self):
            raise DfalError(f"image {index} is outside the folder: its {len(self)} images are 0 to {len(self) - 1}")
        try:
            status = (self.path / self.paths[index]).stat()
        except OSError:
            self._cache.keep([(index, self._cache.entries[index], GONE)])
            raise DfalError(f"{self.paths[index]} is set aside: {GONE}") from None
        return Entry(self.paths[index], status.st_size, status.st_mtime_ns)

    def _attempt(self, index: int) -> Found:
        """For `decode`, which goes on whatever happens to one file."""
        try:
            entry = self._entry(index)
        except DfalError:
            return index, self._cache.entries[index], GONE
        return index, entry, self._decode(entry)

    def _decode(self, entry: Entry) -> NDArray[np.uint8] | str:
        """The pixels as they are kept, channels first, or the reason why there are none."""
        try:
            return np.ascontiguousarray(fitted(self.path / entry.path, self.shape[:2], self.shape[2]).transpose(2, 0, 1))
        except ValueError as error:
            return str(error)


def _name(folder: Path) -> str:
    """What the folder's cache is called: the same folder, the same cache, from wherever it is named."""
    whole = folder.resolve()
    return f"{whole.name or 'root'}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
