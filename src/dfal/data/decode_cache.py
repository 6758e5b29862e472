"""Decoded images of a folder on the disk, which several processes may use.

The cache survives kill -9 and power failures.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows: old caches stay
    fcntl = None  # type: ignore[assignment]

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from dfal.data.listing import GONE, Entry
from dfal.data.path_names import nfc
from dfal.errors import DfalError
from dfal.storage import transaction

TO_DO, READY, ASIDE = 0, 1, 2
DECODER_VERSION = 1
"""To be raised where files are decoded or set aside otherwise than before: see `_renew`."""
MAX_CACHES = 3
"""Caches of one place: a drive may hold now this folder, now that."""

SCHEMA = (
    # What is decoded: of a file of that size and time. `part` counts the writes, so that a reader
    # takes over what is new to it.
    (
        "CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL,"
        " size INTEGER NOT NULL, modified INTEGER NOT NULL, decoded INTEGER NOT NULL, reason TEXT,"
        " part INTEGER NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS by_part ON files (part)",
)


class Decoded(NamedTuple):
    """What became of an image.

    Attributes:
        image_index: of the image.
        entry: its file as it was read.
        result: its pixels, channels first, or the reason why there are none.
    """

    image_index: int
    entry: Entry
    result: NDArray[np.uint8] | str


class OtherFolder(Exception):  # noqa: N818
    """The cache is that of another folder, or in another order."""


class Damaged(DfalError):  # noqa: N818
    """The cache's database cannot be read."""


class Cache:
    """Decoded images in `pixels.u8`, a row each, and their state in `files.db`.

    A row is on the disk before the database says that it is. Threads may share a Cache. Where the
    cache is that of another folder, has its images in another order, or is damaged, another one is
    begun next to it: some process may have the old one open.

    Args:
        place: where the first cache of the folder lies.
        shape: height, width and channels of an image.
        listed: the files that the folder holds.
        order: paths of the first rows; a file of these that is not listed is gone.

    Attributes:
        place: the folder that holds the two files.
        entries: by index, the files as they were when they were decoded, or listed.
        state: of each image: `TO_DO`, `READY` or `ASIDE`.
        raw: all rows, (n, c, h, w), as a live memory map.
    """

    def __init__(
        self,
        place: Path,
        shape: tuple[int, int, int],
        listed: list[Entry],
        order: Sequence[str] = (),
    ):
        self._lock = threading.RLock()
        for candidate in _candidates(place):
            self.place = candidate
            self._database, self._in_use = self._connect()
            try:
                self._set_up()
                with self._writing() as part:
                    self._renew(part)
                    count = self._bring_up_to_date(listed, order, part)
                self._open(shape, count)
                break
            except (OtherFolder, Damaged):
                self.close()
            except BaseException:
                self.close()
                raise
        if self.place != place:
            self._remove_old(place)

    def _open(self, shape: tuple[int, int, int], count: int) -> None:
        self.entries = [Entry("", 0, 0)] * count
        self.state = np.zeros(count, np.uint8)
        self._part = 0
        self.refresh()
        h, w, c = shape
        with self._cache_errors():
            self._reserve(count * h * w * c)
            self.raw: NDArray[np.uint8] = np.memmap(
                self.place / "pixels.u8", np.uint8, "r", shape=(count, c, h, w)
            )

    def refresh(self) -> None:
        """Read the states that this or another process has written since the last time."""
        with self._lock, self._cache_errors():
            rows = self._database.execute(
                "SELECT part, number, path, size, modified, decoded, reason IS NOT NULL FROM files"
                " WHERE part > ?",
                (self._part,),
            )
            for part, number, path, size, modified, done, aside in rows.fetchall():
                self._part = max(self._part, part)
                # Files that another process has found since belong to its folder, not to this one.
                if number < len(self.entries):
                    self.entries[number] = Entry(os.fsdecode(path), size, modified)
                    self.state[number] = ASIDE if aside else READY if done else TO_DO

    def status(self, index: int) -> tuple[Entry, int, str | None]:
        """Return the file of an image as it was last seen, its state, and why it is set aside."""
        with self._lock, self._cache_errors():
            self.refresh()
            (reason,) = self._database.execute(
                "SELECT reason FROM files WHERE number = ?", (index,)
            ).fetchone()
            return self.entries[index], int(self.state[index]), reason

    def pixels(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Return a copy of the pixels of an image."""
        return np.array(self.raw[index].transpose(1, 2, 0), order="C")

    def reasons(self) -> dict[str, str]:
        """Return path → reason, of all files that are set aside."""
        with self._lock, self._cache_errors():
            rows = self._database.execute(
                "SELECT path, reason FROM files WHERE reason IS NOT NULL ORDER BY number"
            ).fetchall()
        return {os.fsdecode(path): reason for path, reason in rows}

    def gone(self) -> list[int]:
        """Return the indices of the images whose files were no longer there."""
        with self._lock, self._cache_errors():
            rows = self._database.execute(
                "SELECT number FROM files WHERE reason = ?", (GONE,)
            ).fetchall()
        return [number for (number,) in rows if number < len(self.entries)]

    def write(self, images: list[Decoded]) -> None:
        """Write decoded images: first the pixels, then their state.

        Raises:
            DfalError: where the disk is full, or the cache cannot be written.
        """
        if not images:
            return
        with self._lock:
            with self._cache_errors(), (self.place / "pixels.u8").open("r+b") as file:
                for index, _, result in images:
                    if isinstance(result, np.ndarray):
                        file.seek(index * result.nbytes)
                        file.write(result.data)
                file.flush()
                os.fsync(file.fileno())
            with self._writing() as part:
                self._database.executemany(
                    "UPDATE files SET size = ?, modified = ?, decoded = ?, reason = ?, part = ?"
                    " WHERE number = ?",
                    [
                        (entry.size, entry.modified, good, None if good else result, part, index)
                        for index, entry, result in images
                        for good in [isinstance(result, np.ndarray)]
                    ],
                )
            for index, entry, result in images:
                self.entries[index] = entry
                self.state[index] = READY if isinstance(result, np.ndarray) else ASIDE

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()
            if self._in_use >= 0:
                os.close(self._in_use)
                self._in_use = -1

    def _connect(self) -> tuple[sqlite3.Connection, int]:
        """Open the database, and a file whose lock says that this cache is in use."""
        with self._cache_errors():
            self.place.mkdir(parents=True, exist_ok=True)
            # Its time stays as it is: it says when the cache was last written to.
            (self.place / "pixels.u8").open("ab").close()
            in_use = _lock(self.place)
            try:
                database = sqlite3.connect(
                    self.place / "files.db",
                    timeout=60,
                    check_same_thread=False,
                    isolation_level=None,
                )
            except BaseException:
                if in_use >= 0:
                    os.close(in_use)
                raise
        return database, in_use

    def _set_up(self) -> None:
        with self._cache_errors():
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            for statement in SCHEMA:
                self._database.execute(statement)

    def _remove_old(self, place: Path) -> None:
        """Remove all but the `MAX_CACHES` written to last, unless a process has them open."""
        others = [other for other in _existing(place) if other != self.place]
        with contextlib.suppress(OSError):
            others.sort(key=lambda other: (other / "pixels.u8").stat().st_mtime, reverse=True)
            for other in others[MAX_CACHES - 1 :]:
                if (lock := _lock(other, alone=True)) >= 0:
                    shutil.rmtree(other, ignore_errors=True)
                    os.close(lock)

    @contextlib.contextmanager
    def _cache_errors(self) -> Iterator[None]:
        """Turn the errors of SQLite and of the system into one sentence.

        Raises:
            Damaged: where the database cannot be read.
            DfalError: where the cache cannot be written.
        """
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise DfalError(
                    f"the cache {self.place} cannot be written ({error}): make it writable, or free"
                    " space"
                ) from None
            raise Damaged(
                f"the cache {self.place} is damaged ({error}): start again, it is made again"
            ) from None
        except OSError as error:
            raise DfalError(
                f"the cache {self.place} cannot be written ({error.strerror}): make it writable, or"
                " free space"
            ) from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[int]:
        """Run a block in a transaction; yield the number of the write, counted from 1."""
        with self._lock, self._cache_errors(), transaction(self._database):
            (part,) = self._database.execute(
                "SELECT coalesce(max(part), 0) + 1 FROM files"
            ).fetchone()
            yield part

    def _renew(self, part: int) -> None:
        """Decode again what an earlier version set aside or decoded wrongly.

        It took errors of the system for faults of the file, refused images for their metadata, and
        made deep TIFF files too dark.
        """
        if self._database.execute("PRAGMA user_version").fetchone() < (DECODER_VERSION,):
            again = (
                "(reason IS NOT NULL AND reason != ?) OR lower(CAST(path AS TEXT)) GLOB '*.tif*'"
            )
            self._database.execute(
                f"UPDATE files SET decoded = 0, reason = NULL, part = ? WHERE {again}",  # noqa: S608  a constant
                (part, GONE),
            )
            self._database.execute(f"PRAGMA user_version = {DECODER_VERSION}")

    def _bring_up_to_date(self, entries: list[Entry], order: Sequence[str], part: int) -> int:
        """Give new files numbers, decode changed ones again, and set aside those that are gone.

        Args:
            entries: the files that the folder holds.
            order: as in `Cache`.
            part: the number of this write.

        Returns:
            The number of images.

        Raises:
            OtherFolder: where the cache is that of another folder or in another order.
        """
        known = {
            os.fsdecode(path): (number, size, modified, reason)
            for path, number, size, modified, reason in self._database.execute(
                "SELECT path, number, size, modified, reason FROM files ORDER BY number"
            )
        }
        listed = {entry.path: entry for entry in entries}
        if (known and not listed.keys() & known.keys()) or _are_in_another_order(
            list(known), order, listed
        ):
            raise OtherFolder
        new = [path for path in dict.fromkeys([*order[len(known) :], *listed]) if path not in known]
        changed = [
            entry
            for entry in entries
            if (before := known.get(entry.path))
            and (before[1:3] != (entry.size, entry.modified) or before[3] == GONE)
        ]
        self._database.executemany(
            "INSERT INTO files (number, path, size, modified, decoded, reason, part) VALUES (?, ?,"
            " ?, ?, 0, ?, ?)",
            [
                (number, os.fsencode(path), entry.size, entry.modified, reason, part)
                for number, path in enumerate(new, len(known))
                for entry in [listed.get(path, Entry(path, 0, 0))]
                for reason in [None if path in listed else GONE]
            ],
        )
        self._database.executemany(
            "UPDATE files SET size = ?, modified = ?, decoded = 0, reason = NULL, part = ? WHERE"
            " path = ?",
            [(entry.size, entry.modified, part, os.fsencode(entry.path)) for entry in changed],
        )
        self._database.executemany(
            "UPDATE files SET reason = ?, part = ? WHERE number = ?",
            [(GONE, part, number) for path, (number, *_) in known.items() if path not in listed],
        )
        return len(known) + len(new)

    def _reserve(self, size: int) -> None:
        """Make room for all rows, as a hole, which takes space on the disk as it is filled."""
        with (self.place / "pixels.u8").open("r+b") as file:
            if file.seek(0, os.SEEK_END) < size:
                file.truncate(size)


def _are_in_another_order(
    known: Sequence[str], order: Sequence[str], listed: Collection[str]
) -> bool:
    """Return whether the rows of a cache are not those of `order`.

    A file that is gone may have had its accents written otherwise.
    """
    return any(
        path != wanted and (wanted in listed or nfc(path) != nfc(wanted))
        for path, wanted in zip(known, order, strict=False)
    ) or not {*known}.isdisjoint(order[len(known) :])


def _existing(place: Path) -> list[Path]:
    """Return the caches at a place, in the order in which they were begun."""
    ends = re.compile(re.escape(place.name) + r"(-[1-9]\d*)?")
    try:
        caches = [
            path
            for path in place.parent.iterdir()
            if ends.fullmatch(path.name) and (path / "files.db").exists()
        ]
    except OSError:
        return []
    return sorted(caches, key=lambda path: int(path.name[len(place.name) + 1 :] or 1))


def _candidates(place: Path) -> Iterator[Path]:
    """Yield the caches that may be a folder's: those that exist, and then new ones."""
    existing = _existing(place)
    yield from existing
    number = 1
    while (
        fresh := place if number == 1 else place.with_name(f"{place.name}-{number}")
    ) in existing:
        number += 1
    yield fresh
    for later in range(number + 1, number + 10):  # others begin theirs at the same time
        yield place.with_name(f"{place.name}-{later}")


def _lock(place: Path, *, alone: bool = False) -> int:
    """Lock a cache as being in use, or alone, to remove it.

    Returns:
        The open file that holds the lock, or -1 where the cache cannot be locked.
    """
    if fcntl is None:
        return -1
    file = os.open(place / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:  # or a disk that knows no locks
        os.close(file)
        return -1
    return file
