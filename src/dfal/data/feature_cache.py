"""Features of a folder's images on the disk, which several processes may use.

A row is on the disk before its key says so: kill -9 and power failures lose what is not written.
"""

import contextlib
import hashlib
import operator
import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: of two processes that write the same row, either may win
    fcntl = None  # type: ignore[assignment]

import numpy as np
from jaxtyping import Bool, Float, Float16, Int64, Shaped
from numpy.typing import NDArray

from dfal.data.image_folder import Folder
from dfal.data.listing import Entry
from dfal.errors import DfalError

MAGIC = b"dfal features 1\n"
"""The beginning of a file of keys. After it come d, as 8 bytes, and the keys."""
HEADER_BYTES = len(MAGIC) + 8
KEY_BYTES = 8
ADOPTED_ROWS = 1024
"""Rows copied at a time from the features of another cache."""
LARGEST = float(np.finfo(np.float16).max)


class FeatureCache:
    """Features (n, d) of a folder's images in half precision, and the keys of those that are there.

    A key is a hash of the file's path, size and time of change, and of the backbone. A row counts
    only where its key is the one of the file as the folder knows it. Threads may share a
    FeatureCache, and processes a file. The two files lie in the folder's cache, and with it they
    are removed when it is old. Where there are none yet, rows are taken from the folder's other
    caches, of other image sizes or orders.

    Args:
        folder: whose images.
        backbone: its name.
        weights: a digest of its weights.
        image: channels, height and width that it takes.
        features: d.

    Attributes:
        path: the file of the features.
        map: all rows, (n, d), as a live memory map: those that are not `ready` mean nothing.

    Raises:
        DfalError: where the files cannot be written.
    """

    def __init__(
        self,
        folder: Folder,
        backbone: str,
        weights: str,
        image: tuple[int, int, int],
        features: int,
    ):
        self._folder, self._features = folder, features
        name = f"features-{_file_name(backbone)}-{'x'.join(map(str, image))}"
        self.path = folder.place / f"{name}.f16"
        self._hash = hashlib.blake2b(
            repr((backbone, weights, image)).encode(), digest_size=KEY_BYTES
        )
        self._seen: list[Entry | None] = [None] * len(folder)
        self._wanted = np.zeros(len(folder), np.uint64)
        self._lock = threading.RLock()
        with contextlib.ExitStack() as files, self._writing():
            self._rows_file, self._keys_file, is_new = self._open(files)
            self.map: Float16[np.ndarray, "n d"] = np.memmap(
                self._rows_file, np.float16, "r", shape=(len(folder), features)
            )
            self._keys: NDArray[np.uint64] = np.memmap(
                self._keys_file, "<u8", "r", HEADER_BYTES, (len(folder),)
            )
            if is_new:
                for other in sorted(folder.place.parent.glob(f"*/{name}.f16")):
                    if other != self.path:
                        self._adopt(other)
            self._close = weakref.finalize(self, files.pop_all().close)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which rows hold the features of the file as the folder knows it.

        An image that was set aside later may be among them: `Folder.ready` says so.
        """
        entries = self._folder.entries
        if any(map(operator.is_not, entries, self._seen)):  # quick where nothing is new
            for index, (entry, seen) in enumerate(zip(entries, self._seen, strict=True)):
                if entry is not seen:
                    self._update(index, entry)
        ready: Bool[np.ndarray, n] = np.equal(self._keys, self._wanted)
        return ready

    def has(self, index: int) -> bool:
        """Return whether `ready` has an image."""
        entry = self._folder.entries[index]
        if entry is not self._seen[index]:
            self._update(index, entry)
        return bool(self._keys[index] == self._wanted[index])

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        """Return a copy of the features of some images in single precision."""
        rows: NDArray[np.float32] = self.map[indices].astype(np.float32)
        return rows

    def write(
        self, indices: Sequence[int], entries: Sequence[Entry], rows: Float[np.ndarray, "m d"]
    ) -> None:
        """Write features: first the rows, then the keys.

        Args:
            indices: of the images.
            entries: their files as they were read.
            rows: their features; beyond what half precision holds they become its largest number.

        Raises:
            DfalError: where the disk is full, or the files cannot be written.
        """
        keys = np.array([self._key(entry) for entry in entries], "<u8")
        half = np.clip(rows, -LARGEST, LARGEST).astype(np.float16)
        with self._lock, self._writing():
            self._write(np.asarray(indices, np.int64), keys, half)

    def close(self) -> None:
        """Close the files, as the end of this object does. The memory map stays."""
        with self._lock:
            self._close()

    def _key(self, entry: Entry) -> int:
        """Return the key of a file, which is never 0: that says that there are no features."""
        digest = self._hash.copy()
        digest.update(os.fsencode(f"{entry.path}\0{entry.size}\0{entry.modified}"))
        return int.from_bytes(digest.digest(), "little") or 1

    def _update(self, index: int, entry: Entry) -> None:
        self._wanted[index] = self._key(entry)
        self._seen[index] = entry

    def _open(self, files: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO, bool]:
        """Open the two files, begun anew where one is damaged, with room for each image.

        Returns:
            The files of rows and of keys, and whether they are new.
        """
        keys_path = self.path.with_suffix(".keys")
        is_new = not self._are_sound(keys_path)
        if is_new:  # a process that has the old ones open keeps them
            keys_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        rows, keys = (
            files.enter_context(path.open("r+b" if path.exists() else "x+b", buffering=0))
            for path in (self.path, keys_path)
        )
        # Rows first: where this ends between the two, there are no keys without rows.
        _reserve(rows, len(self._folder) * self._features * 2)
        if is_new:
            _write_at(keys, 0, self._header())
        _reserve(keys, HEADER_BYTES + len(self._folder) * KEY_BYTES)
        return rows, keys, is_new

    def _are_sound(self, keys_path: Path) -> bool:
        """Return whether there are two files, with a row for each key."""
        try:
            with keys_path.open("rb") as keys:
                header = keys.read(HEADER_BYTES)
                count = (keys.seek(0, os.SEEK_END) - HEADER_BYTES) // KEY_BYTES
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        return header == self._header() and size >= count * self._features * 2

    def _header(self) -> bytes:
        return MAGIC + self._features.to_bytes(8, "little")

    def _adopt(self, other: Path) -> None:
        """Copy the rows of the same files from the features of another cache.

        Nothing is copied from a file that is damaged.
        """
        with contextlib.suppress(OSError):
            content = other.with_suffix(".keys").read_bytes()
            if content[:HEADER_BYTES] != self._header() or len(content) < HEADER_BYTES + KEY_BYTES:
                return
            theirs = np.frombuffer(content, "<u8", len(content[HEADER_BYTES:]) // 8, HEADER_BYTES)
            missing = np.flatnonzero(~self.ready())
            order = np.argsort(theirs)
            places = np.searchsorted(theirs, self._wanted[missing], sorter=order)
            sources = order[np.minimum(places, len(order) - 1)]
            is_there = theirs[sources] == self._wanted[missing]
            targets, sources = missing[is_there], sources[is_there]
            rows = np.empty((ADOPTED_ROWS, self._features), np.float16)
            with other.open("rb") as file:
                for start in range(0, len(targets), ADOPTED_ROWS):
                    part = slice(start, start + ADOPTED_ROWS)
                    for row, source in zip(rows, sources[part].tolist(), strict=False):
                        file.seek(source * row.nbytes)
                        if file.readinto(row.data) < row.nbytes:
                            return
                    count = len(targets[part])
                    self._write(targets[part], self._wanted[targets[part]], rows[:count])

    def _write(
        self,
        indices: Int64[np.ndarray, "m"],
        keys: Shaped[np.ndarray, "m"],
        rows: Float16[np.ndarray, "m d"],
    ) -> None:
        replaced = indices[self._keys[indices] != 0]
        if len(replaced):
            self._put_keys(replaced, np.zeros(len(replaced), "<u8"))
        for index, row in zip(indices.tolist(), rows, strict=True):
            _write_at(self._rows_file, index * row.nbytes, row.tobytes())
        os.fsync(self._rows_file.fileno())
        self._put_keys(indices, keys)

    def _put_keys(self, indices: Int64[np.ndarray, "m"], keys: Shaped[np.ndarray, "m"]) -> None:
        for index, key in zip(indices.tolist(), keys.tolist(), strict=True):
            _write_at(
                self._keys_file, HEADER_BYTES + index * KEY_BYTES, key.to_bytes(KEY_BYTES, "little")
            )
        os.fsync(self._keys_file.fileno())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Run a block while no other process writes here, and turn errors into one sentence.

        Raises:
            DfalError: where the files cannot be written.
        """
        try:
            with (self.path.with_suffix(".lock")).open("ab") as lock:
                if fcntl is not None:
                    with contextlib.suppress(OSError):  # a disk that knows no locks
                        fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise DfalError(
                f"the features {self.path} cannot be written ({error.strerror or error}): make them"
                " writable, or free space"
            ) from None


def _file_name(backbone: str) -> str:
    """Return a name for files: that of the backbone, where a file can have it."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", backbone)
    if name == backbone and len(name) <= 40:
        return name
    return f"{name[:40]}-{hashlib.sha256(backbone.encode()).hexdigest()[:8]}"


def _reserve(file: BinaryIO, size: int) -> None:
    """Make a file at least so large, by a hole, which takes space on the disk as it is filled."""
    if file.seek(0, os.SEEK_END) < size:
        file.truncate(size)


def _write_at(file: BinaryIO, position: int, content: bytes) -> None:
    """Write all of it at a position; an unbuffered file may write less at a time."""
    file.seek(position)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
