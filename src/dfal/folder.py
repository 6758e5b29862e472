"""A folder of images: listed at once, decoded once, in the background, into a memory map at the network's size."""

import contextlib
import csv
import hashlib
import os
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image

from dfal.images import Images
from dfal.pictures import GREY, decoded, fitted, header
from dfal.types import DfalError

ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff"})
"""Files that are taken for images; what they really are, Pillow finds out."""
GONE = "it is no longer there"
SIZE = 64
"""Side of the network's images, where the folder's own differ."""
OWN = 128
"""Up to this side, images that are all alike keep their size."""
SAMPLE = 64
"""Headers read to learn the size and the channels of a folder."""
TOGETHER = 256
"""Images written with one flush to the disk, at most."""
WAIT = 0.5
"""Seconds after which what is decoded is written, however little it is."""

TO_DO, READY, ASIDE = 0, 1, 2

SCHEMA = (
    # What is decoded: of a file of that size and time. `part` counts the writes, so that a reader takes over what is new to it.
    "CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, size INTEGER NOT NULL,"
    " modified INTEGER NOT NULL, decoded INTEGER NOT NULL, reason TEXT, part INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_part ON files (part)",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as the folder lists it. Another size or time means another content."""

    path: str
    size: int
    modified: int


class Folder:
    """The images of a folder and its sub-folders, by index.

    An index never changes while the cache stays: files that come later get the next ones, files that vanish keep theirs
    and are set aside. Threads may share a Folder, and processes a cache.

    Attributes:
        path: the folder.
        paths: of each image, relative to it, with "/"; sorted, but for files that came later.
        shape: height, width and channels of what `image` gives.
        known: index → class, of the images whose class a CSV or the first sub-folder names.
    """

    def __init__(self, path: Path, cache: Path, shape: tuple[int, int, int], listing: "Listing", labels: Path | None):
        self.path, self.cache, self.shape = path, cache, shape
        self._lock = threading.RLock()
        self._unreadable = listing.unreadable
        self._database = self._connect()
        try:
            with self._writing() as part:
                self._bring_up_to_date(listing.entries, part)
            self._part = 0
            self._entries: list[Entry] = []
            self._state = np.empty(0, np.uint8)
            self._load()
            self.paths = tuple(entry.path for entry in self._entries)
            self._raw = self._map()
        except BaseException:
            self._database.close()
            raise
        self.known = _from_csv(labels, path, self.paths) if labels else _from_folders(self.paths)

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
            own, seen = _natural(folder, listing.entries)
            size, channels = size or own, channels or seen
        root = Path(cache) if cache else Path(platformdirs.user_cache_dir("dfal")) / "folders" / _name(folder)
        shape = (size, size, channels)
        return cls(folder, root / "x".join(map(str, shape)), shape, listing, Path(labels) if labels else None)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r}, {len(self)} × {self.shape})"

    @property
    def images(self) -> Images:
        """All images, channels first, as a live memory map: rows that are not `ready` are zeros."""
        return Images(self._raw)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Which images are decoded, here or by another process."""
        with self._lock:
            self._load()
            return np.equal(self._state, READY)

    def set_aside(self) -> dict[str, str]:
        """The files that could not be read so far, each with the reason; sub-folders too."""
        with self._lock:
            rows = self._database.execute("SELECT path, reason FROM files WHERE reason IS NOT NULL ORDER BY number")
            return self._unreadable | {os.fsdecode(path): reason for path, reason in rows}

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
        with self._lock:
            self._load()
            before = self._entries[index]
            if now == before and self._state[index] == READY:
                return self._row(index)
            reason = self._reason(index) if now == before and self._state[index] == ASIDE else None
        if reason is None or reason == GONE:
            result = self._decode(now)
            self._keep([(index, now, result)])
            if isinstance(result, np.ndarray):
                return self._row(index)
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
        with self._lock:
            self._load()
            waiting = iter([index for index in order if self._state[index] == TO_DO])
        found: list[tuple[int, Entry, NDArray[np.uint8] | str]] = []
        pool = ThreadPoolExecutor(workers, "decode")
        running: dict[Future[Any], int] = {}
        flushed = time.monotonic()
        try:
            yield self._dealt_with()
            while True:
                for index in waiting:
                    if self._state[index] == TO_DO:  # nobody asked for it in the meantime
                        running[pool.submit(self._attempt, index)] = index
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    found.append((running.pop(done), *done.result()))
                if len(found) >= TOGETHER or time.monotonic() - flushed > WAIT:
                    self._keep(found)
                    found, flushed = [], time.monotonic()
                    yield self._dealt_with()
            self._keep(found)
            found = []
            yield self._dealt_with()
        finally:
            pool.shutdown(cancel_futures=True)
            self._keep(found)

    def close(self) -> None:
        """Close the cache. What is decoded is there at the next opening."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows is the cache: `pixels.u8`, a row an image, and `files.db`, which says which of its rows are good. A row is on
    # the disk before the database says that it is, so that neither kill -9 nor a power failure leaves a bad one.

    def _connect(self) -> sqlite3.Connection:
        with self._explained():
            self.cache.mkdir(parents=True, exist_ok=True)
            (self.cache / "pixels.u8").touch()
            database = sqlite3.connect(self.cache / "files.db", timeout=60, check_same_thread=False, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                for statement in SCHEMA:
                    database.execute(statement)
            except BaseException:
                database.close()
                raise
        return database

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong with the cache, in one sentence."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise DfalError(
                    f"the cache {self.cache} cannot be written ({error}): make it writable, or free space"
                ) from None
            raise DfalError(f"the cache {self.cache} is damaged ({error}): delete it, it is made again") from None
        except OSError as error:
            raise DfalError(
                f"the cache {self.cache} cannot be written ({error.strerror}): make it writable, or free space"
            ) from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[int]:
        """A transaction, and the number of its part."""
        with self._lock, self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                (part,) = self._database.execute("SELECT coalesce(max(part), 0) + 1 FROM files").fetchone()
                yield part
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _bring_up_to_date(self, entries: list[Entry], part: int) -> None:
        """Number the new files, forget what was decoded of changed ones, set aside those that are gone."""
        known = {
            os.fsdecode(path): (number, size, modified, reason)
            for path, number, size, modified, reason in self._database.execute(
                "SELECT path, number, size, modified, reason FROM files"
            )
        }
        listed = {entry.path for entry in entries}
        if known and not listed & known.keys():
            raise DfalError(f"the cache {self.cache} is that of another folder than {self.path}: name another")
        new = [entry for entry in entries if entry.path not in known]
        changed = [
            one for one in entries if (old := known.get(one.path)) and (old[1:3] != (one.size, one.modified) or old[3] == GONE)
        ]
        self._database.executemany(
            "INSERT INTO files (number, path, size, modified, decoded, part) VALUES (?, ?, ?, ?, 0, ?)",
            [(len(known) + at, os.fsencode(one.path), one.size, one.modified, part) for at, one in enumerate(new)],
        )
        self._database.executemany(
            "UPDATE files SET size = ?, modified = ?, decoded = 0, reason = NULL, part = ? WHERE path = ?",
            [(one.size, one.modified, part, os.fsencode(one.path)) for one in changed],
        )
        self._database.executemany(
            "UPDATE files SET reason = ?, part = ? WHERE number = ?",
            [(GONE, part, number) for path, (number, *_) in known.items() if path not in listed],
        )
        size = (len(known) + len(new)) * int(np.prod(self.shape))
        with (self.cache / "pixels.u8").open("r+b") as file:
            if file.seek(0, os.SEEK_END) < size:
                file.truncate(size)  # a hole: it takes room on the disk as it is filled

    def _load(self) -> None:
        """Take over what this or another process has written since the last time."""
        rows = self._database.execute(
            "SELECT part, number, path, size, modified, decoded, reason IS NOT NULL FROM files WHERE part > ? ORDER BY number",
            (self._part,),
        ).fetchall()
        if not self._entries:
            self._entries = [Entry("", 0, 0)] * len(rows)
            self._state = np.zeros(len(rows), np.uint8)
        for part, number, path, size, modified, done, aside in rows:
            self._part = max(self._part, part)
            if number < len(self._entries):  # files that another process has found since belong to its folder, not to this one
                self._entries[number] = Entry(os.fsdecode(path), size, modified)
                self._state[number] = ASIDE if aside else READY if done else TO_DO

    def _map(self) -> NDArray[np.uint8]:
        h, w, c = self.shape
        with self._explained():
            raw = np.memmap(self.cache / "pixels.u8", np.uint8, "r", shape=(len(self), c, h, w))
        return raw  # noqa: RET504  mypy thinks that `_explained` may swallow an error

    def _row(self, index: int) -> NDArray[np.uint8]:
        return np.array(self._raw[index].transpose(1, 2, 0), order="C")

    def _dealt_with(self) -> int:
        with self._lock:
            return int((self._state != TO_DO).sum())

    def _reason(self, index: int) -> str | None:
        (reason,) = self._database.execute("SELECT reason FROM files WHERE number = ?", (index,)).fetchone()
        return str(reason)

    def _entry(self, index: int) -> Entry:
        """The file as it is now; where it has vanished it is set aside."""
        if not 0 <= index < len(self):
            raise DfalError(f"image {index} is outside the folder: its {len(self)} images are 0 to {len(self) - 1}")
        try:
            status = (self.path / self.paths[index]).stat()
        except OSError:
            self._keep([(index, self._entries[index], GONE)])
            raise DfalError(f"{self.paths[index]} is set aside: {GONE}") from None
        return Entry(self.paths[index], status.st_size, status.st_mtime_ns)

    def _attempt(self, index: int) -> tuple[Entry, NDArray[np.uint8] | str]:
        """For `decode`, which goes on whatever happens to one file."""
        try:
            entry = self._entry(index)
        except DfalError:
            return self._entries[index], GONE
        return entry, self._decode(entry)

    def _decode(self, entry: Entry) -> NDArray[np.uint8] | str:
        """The pixels as they are kept, channels first, or the reason why there are none."""
        try:
            return np.ascontiguousarray(fitted(self.path / entry.path, self.shape[:2], self.shape[2]).transpose(2, 0, 1))
        except ValueError as error:
            return str(error)

    def _keep(self, found: list[tuple[int, Entry, NDArray[np.uint8] | str]]) -> None:
        """Write what was decoded: the pixels first, then that they are there."""
        if not found:
            return
        with self._lock:
            with self._explained(), (self.cache / "pixels.u8").open("r+b", buffering=0) as file:
                for index, _, result in found:
                    if isinstance(result, np.ndarray):
                        file.seek(index * result.nbytes)
                        file.write(result.data)
                os.fsync(file.fileno())
            with self._writing() as part:
                self._database.executemany(
                    "UPDATE files SET size = ?, modified = ?, decoded = ?, reason = ?, part = ? WHERE number = ?",
                    [
                        (entry.size, entry.modified, kept, None if kept else result, part, at)
                        for at, entry, result in found
                        for kept in [isinstance(result, np.ndarray)]
                    ],
                )
            for index, entry, result in found:
                self._entries[index] = entry
                self._state[index] = READY if isinstance(result, np.ndarray) else ASIDE


@dataclass(frozen=True)
class Listing:
    """What a folder holds: its images, sorted by path, and the sub-folders that could not be read."""

    entries: list[Entry]
    unreadable: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        """List a folder. Hidden files and folders are left out, links to folders too: they may go round in circles.

        Raises:
            DfalError: where it is not there, cannot be read, or holds no image.
        """
        if not folder.exists():
            raise DfalError(f"there is no folder {folder}: name one that is there")
        if not folder.is_dir():
            raise DfalError(f"{folder} is a file, but a folder of images is needed")
        entries, unreadable, others = [], {}, Counter[str]()
        waiting = [""]
        while waiting:
            inside = waiting.pop()
            try:
                found = list(os.scandir(folder / inside))
            except OSError as error:
                unreadable[inside or "."] = f"it cannot be listed ({error.strerror})"
                continue
            for one in found:
                path = f"{inside}/{one.name}" if inside else one.name
                if one.name.startswith("."):
                    continue
                if one.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif (ending := "".join(one.name.rpartition(".")[1:]).lower()) not in ENDINGS:
                    others[ending if "." in ending else "no ending"] += 1
                else:
                    try:
                        status = one.stat()
                    except OSError:  # a link to nothing
                        unreadable[path] = GONE
                        continue
                    if stat.S_ISREG(status.st_mode):  # reading from anything else might wait for ever
                        entries.append(Entry(path, status.st_size, status.st_mtime_ns))
        if not entries:
            held = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
            held = f"it holds {held}" if held else f"{len(unreadable)} could not be read" if unreadable else "it is empty"
            raise DfalError(f"{folder} holds no image that is JPEG, PNG, WebP, GIF or TIFF: {held}")
        return cls(sorted(entries, key=lambda entry: entry.path), unreadable)


def _name(folder: Path) -> str:
    """What the folder's cache is called: the same folder, the same cache, from wherever it is named."""
    whole = folder.resolve()
    return f"{whole.name or 'root'}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"


def _natural(folder: Path, entries: list[Entry]) -> tuple[int, int]:
    """Side and channels that suit a folder, from the headers of a sample that is spread over it."""
    places = np.linspace(0, len(entries) - 1, min(SAMPLE, len(entries))).round().astype(int)
    headers = [found for place in places if (found := header(folder / entries[place].path))]
    sizes = {size for size, _ in headers}
    modes = {mode for _, mode in headers}
    (width, height), *more = sizes or {(0, 1)}
    alike = not more and width == height and width <= OWN
    return width if alike else SIZE, 1 if modes and modes <= GREY else 3


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _from_folders(paths: tuple[str, ...]) -> dict[int, str]:
    return {index: path.split("/", 1)[0] for index, path in enumerate(paths) if "/" in path}


def _from_csv(file: Path, folder: Path, paths: tuple[str, ...]) -> dict[int, str]:
    """index → class as the CSV says. Rows without a label are left out; paths may be absolute, or have backslashes."""
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            rows = csv.DictReader(text)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise DfalError(f"{file} has no columns path and label: write them in its first line")
            given = [(row["path"] or "", (row["label"] or "").strip()) for row in rows]
    except OSError as error:
        raise DfalError(f"the labels {file} cannot be read ({error.strerror}): name a CSV that is there") from None
    except csv.Error as error:
        raise DfalError(f"the labels {file} are no CSV ({error}): write the columns path and label") from None
    index = {path: at for at, path in enumerate(paths)}
    whole = f"{folder.resolve().as_posix()}/"
    known: dict[int, str] = {}
    for path, label in given:
        plain = path if path in index else path.replace("\\", "/").removeprefix(whole).removeprefix("./")
        if plain not in index:
            raise DfalError(f"{file} names {path!r}, which is not in {folder}: paths are relative to the folder")
        if label and known.setdefault(index[plain], label) != label:
            raise DfalError(f"{file} gives {path!r} two labels, {known[index[plain]]!r} and {label!r}: leave one")
    return known
