"""A SQLite file to which rows are added and never changed: what the stores of `dfal run` and of
`dfal label` have in common."""

import contextlib
import errno
import functools
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import filelock

from dfal.damage import RESTORE, damage
from dfal.errors import DfalError, first_line

Opened = TypeVar("Opened", bound="Ledger")
CHECKED = 32 * 2**20
"""Bytes up to which all pages of a file are checked when it is opened, which takes some 30 ms."""
BESIDE = ("-wal", "-shm", "-journal")
"""Endings of the files in which SQLite keeps what is not in the database yet."""


class Ledger:
    """An open file. One process may have it open for writing, any number for reading; a ledger that
    is `shared` may be written to by several processes, and by several threads of one that take
    turns.

    A file of another schema than this class's is refused before a row is read: no view and no
    trigger of others runs. Where nothing can be written a reader still reads. A writer notices that
    its file was deleted or replaced.

    Args:
        path: the file. A writer makes it where there is none, and its folder. A link stands for its
        target.
        write: whether to add rows.

    Raises:
        DfalError: for a file that is no ledger of this kind, of a newer version, not there, not
        writable, damaged, or in use.
    """

    application: ClassVar[int]
    version: ClassVar[int] = 1
    schema: ClassVar[str]
    maker: ClassVar[str]
    """The command that makes such files."""
    when_full: ClassVar[str]
    """What to do once there is space on the disk again."""
    shared: ClassVar[bool] = False
    migrations: ClassVar[Mapping[int, Sequence[str]]] = {}
    """By version, the statements that make a store of it one of the next: a writer brings it up to
    date when it opens it."""
    patience: ClassVar[float] = 30.0
    """Seconds to wait for another process that writes."""

    def __init__(self, path: Path | str, *, write: bool = False):
        self.path = real_path(path)
        # The lock's file stays: removing it would let two writers hold locks on two files of one
        # name.
        self._lock = filelock.FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
        self._place = str(self.path)
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._opened: os.stat_result | None = None
        self._wal: tuple[int, int] | None = None
        self._refused: tuple[int, int] | None = None
        with self._explained():
            self._refuse_foreign(write)
            if write and not self.shared:
                self._acquire()
            try:
                self._db = self._open_to_write() if write else self._open_to_read()
            except BaseException:
                self._lock.release()
                if self._copy:
                    self._copy.cleanup()
                raise

    def _refuse_foreign(self, write: bool) -> None:
        """Look before touching: a file that is no store of ours is left as it is, to the byte."""
        if not self.path.exists() and not write:
            raise DfalError(f"there is no store {self.path}: name one that `{self.maker}` made")
        if self.path.is_dir():
            raise DfalError(
                f"{self.path} is a folder and cannot be used as a store: name a file in it"
            )
        if self.path.exists() and not self.path.is_file():
            raise DfalError(f"{self.path} is no file and cannot be used as a store: name one")
        if not self.path.exists() or self.path.stat().st_size == 0:
            if not write:
                raise DfalError(
                    f"the store {self.path} is empty: let `{self.maker}` write to it first"
                )
            return
        with self.path.open("r+b" if write else "rb") as file:
            header = file.read(100)
        if header[:16] != b"SQLite format 3\0":
            raise DfalError(f"{self.path} is no dfal store: name another file")
        if int.from_bytes(header[68:72], "big") != self.application:
            raise DfalError(
                f"{self.path} is a database, but no store of {self.maker}: name another file"
            )
        if (version := int.from_bytes(header[60:64], "big")) > self.version:
            raise DfalError(
                f"{self.path} is a store of version {version}, but this dfal knows {self.version}:"
                " update dfal"
            )
        if version < self.version and version not in self.migrations:
            raise DfalError(
                f"the store {self.path} is damaged (it has the version {version}): {RESTORE}"
            )

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            Path(self._lock.lock_file).open(
                "ab"
            ).close()  # where it cannot be written, filelock says only that it waited
            self._lock.acquire()
        except filelock.Timeout:
            raise DfalError(
                f"another process writes to {self.path}: wait for it, or name another store"
            ) from None

    # Opening.

    def _open_to_write(self) -> sqlite3.Connection:
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._create()
        db = self._connect(str(self.path))
        try:
            self._check_schema(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA recursive_triggers = ON")  # REPLACE is a change, too
            self._migrate(db)
            self._opened, self._wal = self.path.stat(), _identity(self._beside("-wal"))
        except BaseException:
            db.close()
            raise
        return db

    def _open_to_read(self) -> sqlite3.Connection:
        """Open it as it is; of an older version, a copy in memory that is brought up to date."""
        try:
            db = self._connect(str(self.path))
            try:
                self._check_schema(db)
            except BaseException:
                db.close()
                raise
        except sqlite3.OperationalError as error:
            if not _is_error(error, "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR"):
                raise
            db = self._open_where_nothing_can_be_written()
        try:
            if db.execute("PRAGMA user_version").fetchone() != (self.version,):
                old, db = (
                    db,
                    sqlite3.connect(
                        ":memory:", isolation_level=None, check_same_thread=not self.shared
                    ),
                )
                with contextlib.closing(old):
                    old.backup(db)
                self._migrate(db)
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
        return db

    def _open_where_nothing_can_be_written(self) -> sqlite3.Connection:
        """Open a store on a read-only disk, in which SQLite cannot make the files that it needs
        beside it.

        Where such files are there and hold rows, a copy of all of them is opened.
        """
        left = [end for end in BESIDE if end != "-shm" and _size(self._beside(end))]
        if left:
            self._copy = tempfile.TemporaryDirectory(prefix="dfal-", ignore_cleanup_errors=True)
            copy = Path(self._copy.name) / self.path.name
            for end in ("", *left):
                shutil.copyfile(self._beside(end), copy.with_name(copy.name + end))
            db = self._connect(str(copy))
        else:
            db = self._connect_as_it_is()
        try:
            self._check_schema(db)
        except BaseException:
            db.close()
            raise
        return db

    def _connect_as_it_is(self) -> sqlite3.Connection:
        """Open the file alone, without a log and without locks: it must not change in the
        meantime."""
        return self._connect(f"{self.path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def _connect(self, path: str, *, uri: bool = False) -> sqlite3.Connection:
        db = sqlite3.connect(
            path,
            uri=uri,
            isolation_level=None,
            timeout=self.patience,
            check_same_thread=not self.shared,
        )
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        return db

    def _beside(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)

    def _check_schema(self, db: sqlite3.Connection) -> None:
        """Raise unless tables, indices and triggers are those that dfal makes, and the pages of a
        small file fit together.

        Others may have put in a view without end, a trigger, or a table that only looks like ours.
        """
        with transaction(db, "DEFERRED"):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if _objects(db) != _expected(type(self), version):  # type: ignore[arg-type]
                raise DfalError(
                    f"the store {self.path} is damaged, or was changed (its tables, indices or"
                    f" triggers are not those of `{self.maker}`): {RESTORE}"
                )
        if (_size(self.path) or 0) <= CHECKED:
            ((found,),) = db.execute("PRAGMA quick_check(1)").fetchall()
            if found != "ok":  # a line "*** in database main ***" may come before what is wrong
                what = first_line(ValueError(found.splitlines()[-1]))
                raise DfalError(f"the store {self.path} is damaged ({what}): {RESTORE}")

    def _create(self) -> None:
        """A store is there whole or not at all: it is made beside its place and moved there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
            self._make(db)
        self._remove_leftovers()
        part.replace(self.path)

    def _remove_leftovers(self) -> None:
        """Remove what is left beside a file of this name that somebody has deleted: it would be
        read into the new one."""
        for end in BESIDE:
            self._beside(end).unlink(missing_ok=True)

    @classmethod
    def _make(cls, db: sqlite3.Connection) -> None:
        db.executescript(f"BEGIN; {cls.schema}")  # one transaction: to wait for the disk once
        cls._guard(db)
        db.execute(f"PRAGMA application_id = {cls.application}")
        db.execute(f"PRAGMA user_version = {cls.version}")
        db.execute("COMMIT")

    def _migrate(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone() == (self.version,):
            return
        with transaction(db):  # where several open an old store at once, one of them renews it
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for statement in (
                one for number in range(version, self.version) for one in self.migrations[number]
            ):
                db.execute(statement)
            self._guard(db)
            db.execute(f"PRAGMA user_version = {self.version}")

    @staticmethod
    def _guard(db: sqlite3.Connection) -> None:
        """Rows of no table can be changed from now on."""
        for (table,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        ).fetchall():
            for change in ("UPDATE", "DELETE"):
                stop = "SELECT RAISE(ABORT, 'rows are added, never changed')"
                db.execute(
                    f"CREATE TRIGGER IF NOT EXISTS {table}_{change} BEFORE {change} ON {table}"
                    f" BEGIN {stop}; END"
                )

    # The file under an open ledger.

    @contextlib.contextmanager
    def _adding(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the file that is at the path, before it and after it: nothing is added
        to a deleted one.

        Raises:
            DfalError: with a cause, where the file is gone and its rows cannot be written back.
        """
        if self._opened is None:
            raise DfalError(f"the store {self.path} was opened to be read only: open it to write")
        self._keep_place()
        with transaction(self._db) as db:
            if lost := self._lost():  # only now nobody else can be writing it back
                raise self._not_saved(lost)
            yield db
        self._wal = self._wal or _identity(self._beside("-wal"))
        self._keep_place()

    def _lost(self) -> str:
        """What has become of the open file: "deleted", "replaced", "without its log", or nothing
        where it is at its path."""
        now = _status(self._place)
        if now is None:
            return "deleted"
        before = self._opened or now
        if (now.st_dev, now.st_ino) != (
            before.st_dev,
            before.st_ino,
        ) or now.st_size < before.st_size:
            return "replaced"  # also where it was written over: stores never become smaller
        self._opened = now
        return (
            "without its log" if self._wal and _identity(f"{self._place}-wal") != self._wal else ""
        )

    def _keep_place(self) -> None:
        """Where the file was deleted, write all rows back to its path; where it was replaced, go on
        if no row is missing."""
        if not (lost := self._lost()):
            return
        try:
            if lost == "deleted":
                self._write_back()
            if lost == "without its log":
                if not self._beside("-wal").exists():
                    self._db.execute(
                        "PRAGMA wal_checkpoint(PASSIVE)"
                    )  # the rows in the log go into the file
                raise self._not_saved(lost)
            self._go_on_with_path()
        except (OSError, sqlite3.Error, DfalError) as error:
            raise self._not_saved(lost) from error

    def _follow(self) -> None:
        """Before reading: where another process has written the file back, read that one, or
        nothing new is ever seen."""
        if (
            self._opened is None
            or self._lost() != "replaced"
            or self._refused == (now := _identity(self.path))
        ):
            return
        try:
            self._go_on_with_path()
        except (OSError, sqlite3.Error, UnicodeDecodeError, DfalError):
            self._refused = now  # it is looked at once

    def _not_saved(self, lost: str) -> DfalError:
        what, cure = {
            "deleted": (
                "was deleted or moved",
                "put it back, or make its folder writable: all rows are written back there",
            ),
            "replaced": (
                "was replaced by another file",
                "move that file away: all rows are written back there",
            ),
            "without its log": (
                "has lost the file with the ending -wal beside it",
                "stop all programs that have it open and start them again",
            ),
        }[lost]
        error = DfalError(
            f"the store {self.path} {what} while it was open, and nothing is saved now: {cure}"
        )
        error.__cause__ = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        return error

    def _write_back(self) -> None:
        """Write the deleted file, which is still open, to its path, if nothing is there and its
        disk is."""
        if self._opened is None or self.path.parent.stat().st_dev != self._opened.st_dev:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path.parent))
        part = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.part")
        with transaction(self._db):  # others that have it open wait, and then find the new file
            if self.path.exists():  # one of them was first
                return
            content = bytearray(self._db.serialize())
            content[18:20] = b"\1\1"  # a file without a log beside it
            try:
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                self._remove_leftovers()
                try:
                    os.link(part, self.path)  # fails where something is there
                except FileExistsError:
                    return
                except OSError:  # a file system without links
                    part.rename(self.path)
            finally:
                part.unlink(missing_ok=True)

    def _go_on_with_path(self) -> None:
        """Open the file that is at the path now, and go on with it if it has every row of the one
        that is open.

        The log of the open file may lie beside it, and SQLite would write its pages into a file
        that they do not belong to.

        Raises:
            DfalError: where it has not, or is no store.
        """
        if not _size(self.path):
            raise self._not_saved("replaced")
        self._refuse_foreign(write=True)
        with transaction(self._db):  # of several that have the old file open, one at a time
            if self._wal and _identity(self._beside("-wal")) == self._wal:
                with contextlib.closing(self._connect_as_it_is()) as new:
                    self._check_schema(new)
                    self._check_continued(new)
                self._remove_leftovers()
        before, wal = self._opened, self._wal
        new = self._open_to_write()
        try:
            self._check_continued(new)
        except BaseException:
            new.close()
            self._opened, self._wal = before, wal
            raise
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._db = new

    def _check_continued(self, new: sqlite3.Connection) -> None:
        """Raise unless the file has every row of the one that is open."""
        if any(_has_more(self._db, new, table) for table in _tables(self._db)):
            raise self._not_saved("replaced")

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        if self._lock.is_locked and not self._lost():
            with contextlib.suppress(
                sqlite3.Error, UnicodeDecodeError
            ):  # a reader still has it open
                self._db.execute(
                    "PRAGMA journal_mode = DELETE"
                )  # one file, to be read from any disk
        self._db.close()
        self._lock.release()
        if self._copy:
            self._copy.cleanup()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Errors.

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise DfalError(f"the store {self.path} {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:  # noqa: PLR0911  one for each cure
        what = first_line(
            OSError(error.strerror) if isinstance(error, OSError) and error.strerror else error
        )
        if _is_error(error, "SQLITE_FULL") or getattr(error, "errno", None) in {
            errno.ENOSPC,
            errno.EDQUOT,
        }:
            return f"is on a full disk: free some space and {self.when_full}"
        if _is_error(error, "SQLITE_BUSY", "SQLITE_LOCKED"):
            return "is being written to by another process: wait until it has finished, or stop it"
        if _is_error(
            error,
            "SQLITE_CORRUPT",
            "SQLITE_NOTADB",
            "SQLITE_FORMAT",
            "SQLITE_MISMATCH",
            "SQLITE_TOOBIG",
        ):
            return f"is damaged: {RESTORE}"
        if isinstance(error, UnicodeDecodeError) or "Could not decode" in str(
            error
        ):  # so does SQLite's own message end
            return f"is damaged (text that is not UTF-8): {RESTORE}"
        if _is_error(error, "SQLITE_ERROR") and any(
            word in str(error) for word in ("malformed", "no such table", "no such col")
        ):
            return f"is damaged ({what}): {RESTORE}"
        if _is_error(error, "SQLITE_IOERR"):
            return f"cannot be read or written ({what}): see to its disk, or restore a copy"
        if self.path.is_file() and (
            _is_error(error, "SQLITE_READONLY")
            or getattr(error, "errno", None) in {errno.EACCES, errno.EPERM, errno.EROFS}
        ):
            return (
                f"cannot be written here ({what}): copy it to a folder of yours and name the copy"
            )
        return f"cannot be written or read ({what}): name a store in a folder of yours"

    @contextlib.contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Around the reading of rows: what cannot have been written by dfal is damage."""
        try:
            with (
                self._explained(),
                damage(
                    f"the store {self.path}", passing=(sqlite3.Error, OSError, UnicodeDecodeError)
                ),
            ):
                yield
        except DfalError as error:  # a check's own sentence says what of it is wrong, and not where
            if str(self.path) in str(error):
                raise
            raise DfalError(f"the store {self.path}: {error}") from error


def real_path(path: Path | str) -> Path:
    """Return the file that a path stands for: links lead to it, so that all names of a store have
    one lock."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _is_error(error: Exception, *names: str) -> bool:
    """Whether this is one of SQLite's errors, or a closer kind of one."""
    name = getattr(error, "sqlite_errorname", "")
    return any(name == one or name.startswith(f"{one}_") for one in names)


def _status(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  four times an answer: a Path would take as long as the rest
    except (FileNotFoundError, NotADirectoryError):
        return None


def _size(path: Path) -> int | None:
    status = _status(path)
    return None if status is None else status.st_size


def _identity(path: Path | str) -> tuple[int, int] | None:
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def _objects(db: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    """Tables, indices, views and triggers: kind, name, and statement without its blanks. Statistics
    are SQLite's own."""
    found = db.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'table' AND name GLOB"
        " 'sqlite_stat[14]')"
    )
    return frozenset((kind, name, "".join((sql or "").split())) for kind, name, sql in found)


@functools.cache
def _expected(kind: Any, version: int) -> frozenset[tuple[str, str, str]]:
    """The objects of a new file of that version: those of the newest, without what came later."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        kind._make(db)
        newest = _objects(db)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in (
            one for number in range(version, kind.version) for one in kind.migrations[number]
        ):
            db.execute(statement)
        kind._guard(db)
        return newest - _objects(db)


def _tables(db: sqlite3.Connection) -> list[str]:
    rows = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    )
    return [name for (name,) in rows.fetchall()]


def _has_more(db: sqlite3.Connection, other: sqlite3.Connection, table: str) -> bool:
    """Whether the table has a row that it has not in the other file."""
    names = [
        name
        for (name,) in db.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))
    ]
    same = " AND ".join(f"{name} IS ?" for name in names)
    return any(
        other.execute(f"SELECT 1 FROM {table} WHERE {same}", row).fetchone() is None
        for row in db.execute(f"SELECT {', '.join(names)} FROM {table}")
    )


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """All that is done inside is done, or none of it."""
    db.execute(f"BEGIN {kind}")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have ended it already
            db.execute("ROLLBACK")
        raise
