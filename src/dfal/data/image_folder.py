"""A folder of images, decoded once, in the background, to the size that a network sees."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
import platformdirs
from jaxtyping import Bool, UInt8
from PIL import Image

from dfal.data.background_decoding import BackgroundDecoding, ImageConsumer
from dfal.data.decode_cache import ASIDE, READY, Cache, Decoded
from dfal.data.folder_files import FolderFiles, named
from dfal.data.image_array import Images
from dfal.data.image_files import Unavailable, decoded
from dfal.data.label_table import read_labels
from dfal.data.layout import Layout
from dfal.data.listing import GONE, Entry, Listing, side_and_channels
from dfal.data.path_names import PathIndex
from dfal.errors import DfalError
from dfal.processes import available_cores

SHOWN_SIDE = 2400
"""Pixels of the longer side of an original that are enough to be shown."""
STUCK_ATTEMPTS = 3
"""Attempts after which a file that the system does not let be read is shown as one that cannot
be, until it can."""


class Folder:
    """The images of a folder and its sub-folders, by index.

    An index never changes while the cache stays: files that come later get the next ones, files
    that vanish keep theirs and are set aside. Files that cannot be read just now, because the
    folder is away or the system refuses, are not set aside but tried again. Threads may share a
    Folder, and processes a cache.

    Attributes:
        path: the folder.
        paths: of each image, relative to it, with "/"; sorted, except for files that came later,
            or in the order that `open` was given.
        shape: height, width and channels of what `image` returns.
        known: index → class, of the images whose class a CSV or the first sub-folder names.
        others: ending → number of files of other kinds.
        layout: the classes and parts of a data set by its sub-folders.
        left_out: rows of the CSV that give no label, counted by their column `how`.
    """

    def __init__(
        self,
        path: Path,
        cache: Path,
        shape: tuple[int, int, int],
        listing: Listing,
        labels: Path | None,
        *,
        classes: Collection[str] = (),
        order: Sequence[str] = (),
    ):
        self.path, self.shape = path, shape
        self._unreadable, self.others = listing.unreadable, listing.others
        order = _as_listed(order, [entry.path for entry in listing.entries])
        self._cache = Cache(cache, shape, listing.entries, order)
        self.paths = tuple(entry.path for entry in self._cache.entries)
        self._files = FolderFiles(path, self.paths, shape)
        self._decoding = BackgroundDecoding(self._cache, self._files)
        self.left_out = Counter[str]()
        try:
            self.layout = Layout.of(self.paths, classes)
            self.known = self.layout.classes
            if labels:
                table = read_labels(labels, path, self.paths)
                self.known, self.left_out = table.known, table.left_out
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
        *,
        classes: Collection[str] = (),
        order: Sequence[str] = (),
        listing: Listing | None = None,
    ) -> "Folder":
        """List a folder, and open its cache where there is one. Nothing is decoded yet.

        Args:
            path: the folder.
            cache: the folder for decoded images; by default in the user's cache.
            size: side of the square that a network sees; by default the images' own, if a sample of
                them is square, alike and not larger than `MAX_OWN_SIDE`, else `DEFAULT_SIDE`.
            channels: 1 or 3; by default 1 where the sample is grey.
            labels: a CSV with the columns path and label; by default the names of sub-folders are
                the classes (`Layout.of`).
            classes: names of known classes; a sub-folder with such a name is that class.
            order: paths of the first images, however their accents are written: image i of the
                folder is order[i], and set aside where its file is gone. Other files follow.
            listing: of the folder, where it was listed already.

        Raises:
            DfalError: for a folder that is not there or holds no image, a bad CSV, a cache that
                cannot be written.
        """
        if size is not None and size < 1:
            raise DfalError(f"size = {size} is not a number of pixels: give 1 or more")
        if channels not in (None, 1, 3):
            raise DfalError(f"channels = {channels} is neither 1 (grey) nor 3 (colour)")
        folder = Path(path)
        listing = listing or Listing.of(folder)
        if size is None or channels is None:
            suited_size, suited_channels = side_and_channels(folder, listing.entries)
            size, channels = size or suited_size, channels or suited_channels
        root = (
            Path(cache)
            if cache
            else Path(platformdirs.user_cache_dir("dfal")) / "folders" / _cache_name(folder)
        )
        shape = (size, size, channels)
        return cls(
            folder,
            root / "x".join(map(str, shape)),
            shape,
            listing,
            Path(labels) if labels else None,
            classes=classes,
            order=order,
        )

    @property
    def place(self) -> Path:
        """Return the folder of the cache."""
        return self._cache.place

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r}, {len(self)} × {self.shape})"

    @property
    def entries(self) -> Sequence[Entry]:
        """Return the files as they were when they were decoded, or listed, by index. It is live."""
        return self._cache.entries

    @property
    def images(self) -> Images:
        """Return all images as a live memory map: those that are not `ready` are zeros."""
        return Images(self._cache.raw)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images are decoded, here or by another process."""
        self._cache.refresh()
        return np.equal(self._cache.state, READY)

    def is_set_aside(self) -> Bool[np.ndarray, "n"]:
        """Return which images are set aside, here or by another process."""
        self._cache.refresh()
        return np.equal(self._cache.state, ASIDE)

    def set_aside(self) -> dict[str, str]:
        """Return path → reason, of the files and sub-folders that cannot be read.

        Those that cannot be read just now are not among them: see `delayed`.
        """
        return self._unreadable | self._cache.reasons()

    def delayed(self, attempts: int = 1) -> dict[str, str]:
        """Return path → reason, of the files that cannot be read just now and are tried again.

        Args:
            attempts: that failed, at least. From 2 on, only files are returned that are themselves
                the reason, by a missing permission say, not the system or a folder that is away.
        """
        return {
            self.paths[index]: str(error)
            for index, (count, error) in sorted(self._decoding.delayed.copy().items())
            if count >= attempts and (attempts == 1 or not error.general)
        }

    def file(self, index: int) -> Path:
        """Return the path of an original.

        Raises:
            Unavailable: where it cannot be reached just now.
            DfalError: where it is no longer there.
        """
        self._entry(index)
        return self.path / self.paths[index]

    def original(self, index: int, longest: int | None = SHOWN_SIDE) -> Image.Image:
        """Decode an original as every browser can show it: 8 bits, grey or colour, upright.

        Args:
            index: of the image.
            longest: an image of more than 16 million pixels may come smaller, with its longer side
                no shorter than this; with None it comes in full size.

        Raises:
            Unavailable: where it cannot be read just now.
            DfalError: where it cannot be read.
        """
        try:
            return decoded(self.file(index), longest=longest)
        except Unavailable as error:
            raise named(error, self.paths[index]) from None
        except DfalError:
            raise
        except ValueError as error:
            raise DfalError(f"{self.paths[index]}: {error}") from None

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Return an image as the network sees it.

        It is decoded now if it is not yet, or if its file has changed.

        Raises:
            Unavailable: where it cannot be read just now.
            DfalError: where it cannot be read, with the reason.
        """
        now = self._entry(index)
        before, state, reason = self._cache.status(index)
        if now == before and state == READY:
            return self._cache.pixels(index)
        if now != before or reason is None or reason == GONE:
            try:
                result = self._files.pixels(now.path)
            except Unavailable as error:
                raise named(error, self.paths[index]) from None
            self._cache.write([Decoded(index, now, result)])
            self._decoding.delayed.pop(index, None)
            if isinstance(result, np.ndarray):
                return self._cache.pixels(index)
            reason = result
        raise DfalError(f"{self.paths[index]} is set aside: {reason}")

    def decode(
        self,
        order: Iterable[int] | None = None,
        workers: int | None = None,
        patience: float | None = None,
        consumer: ImageConsumer | None = None,
    ) -> Generator[int]:
        """Decode all images that are not yet, on several threads.

        A killed process loses no more than what is not written yet. Closing the iterator stops the
        threads. Files that cannot be read just now are tried again; `delayed` returns those that
        still cannot be when this ends.

        Args:
            order: indices to begin with; the others follow by index.
            workers: threads; by default one for each core that this process may use.
            patience: seconds without progress after which files that cannot be read just now are
                left for another time; ten by default.
            consumer: takes the images in another size too, and those that it wants are decoded for
                it alone where they are decoded already.

        Yields:
            The number of images that are decoded or set aside.
        """
        yield from self._decoding.run(order or (), workers or available_cores(), patience, consumer)

    def close(self) -> None:
        """Close the cache. Decoded images are there at the next opening."""
        self._cache.close()

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entry(self, index: int) -> Entry:
        """Return the file of an image as it is now; one that has vanished is set aside.

        Raises:
            Unavailable: where it cannot be reached just now.
            DfalError: for an index outside the folder, and where the file has vanished.
        """
        if not 0 <= index < len(self):
            raise DfalError(
                f"image {index} is outside the folder: its {len(self)} images are 0 to"
                f" {len(self) - 1}"
            )
        if (entry := self._files.entry(self.paths[index])) is None:
            self._cache.write([Decoded(index, self._cache.entries[index], GONE)])
            raise DfalError(f"{self.paths[index]} is set aside: {GONE}")
        return entry


def _as_listed(paths: Sequence[str], listed: Sequence[str]) -> list[str]:
    """Return paths with their accents as a folder writes them; those not listed stay."""
    index, taken = PathIndex(listed), {*paths}
    written = []
    for path in paths:
        place = index.get(path)
        written.append(path if place < 0 or listed[place] in taken else listed[place])
        taken.add(written[-1])
    return written


def _cache_name(folder: Path) -> str:
    """Return the name of a folder's cache, which is the same for every path of the folder."""
    resolved = folder.resolve()
    return f"{resolved.name or 'root'}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:12]}"
