"""A SQLite file to which rows are added and never changed: what the stores of `dfal run` and of `dfal label` have in common."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

import filelock

from dfal.types import DfalError

Opened = TypeVar("Opened", bound="Ledger")


class Ledger:
    """An open file. One process may have it open for writing, any number for reading; a ledger that is `shared` may be
    written to by several processes, and by several threads of one that take turns.

    Args:
        path: the file. A writer makes it where there is none, and its folder.
        write: whether to add rows.

    Raises:
        DfalError: for a file that is no ledger of this kind, of a newer version, not there, not writable, or in use.
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
    """By version, the statements that make a store of it one of the next: a writer brings it up to date when it opens it."""

    def __init__(self, path: Path | str, *, write: bool = False):
        self.path = Path(path)
        # The lock's file stays: removing it would let two writers hold locks on two files of one name.
        self._lock = filelock.FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
        with self._explained():
            self._refuse_foreign(write)
            if write and not self.shared:
                self._acquire()
            try:
                self._db = self._open(write)
            except BaseException:
                self._lock.release()
                raise

    def _refuse_foreign(self, write: bool) -> None:
        """Look before touching: a file that is no store of ours is left as it is, to the byte."""
        if not self.path.exists() and not write:
            raise DfalError(f"there is no store {self.path}: name one that `{self.maker}` made")
        if self.path.is_dir():
            raise DfalError(f"{self.path} is a folder and cannot be used as a store: name a file in it")
        if not self.path.exists() or self.path.stat().st_size == 0:
            if not write:
                raise DfalError(f"the store {self.path} is empty: let `{self.maker}` write to it first")
            return
        with self.path.open("r+b" if write else "rb") as file:
            header = file.read(100)
        if header[:16] != b"SQLite format 3\0":
            raise DfalError(f"{self.path} is no dfal store: name another file")
        if int.from_bytes(header[68:72], "big") != self.application:
            raise DfalError(f"{self.path} is a database, but no store of {self.maker}: name another file")
        if (version := int.from_bytes(header[60:64], "big")) > self.version:
            raise DfalError(f"{self.path} is a store of version {version}, but this dfal knows {self.version}: update dfal")
        if version < self.version and not write:
            raise DfalError(f"{self.path} is a store of version {version}: let `{self.maker}` go on with it, which renews it")

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            Path(self._lock.lock_file).open("ab").close()  # where it cannot be written, filelock says only that it waited
            self._lock.acquire()
        except filelock.Timeout:
            raise DfalError(f"another process writes to {self.path}: wait for it, or name another store") from None

    def _open(self, write: bool) -> sqlite3.Connection:
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._create()
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30, check_same_thread=not self.shared)
        if write:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA recursive_triggers = ON")  # REPLACE is a change, too
            self._migrate(db)
        else:
            db.execute("PRAGMA query_only = ON")
        return db

    def _create(self) -> None:
        """A store is there whole or not at all: it is made beside its place and moved there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
            db.executescript(f"BEGIN; {self.schema}")  # one transaction: to wait for the disk once
            self._guard(db)
            db.execute(f"PRAGMA application_id = {self.application}")
            db.execute(f"PRAGMA user_version = {self.version}")
            db.execute("COMMIT")
        for left in ("-wal", "-shm"):  # of a file of this name that somebody has deleted: it would be read into the new one
            self.path.with_name(self.path.name + left).unlink(missing_ok=True)
        part.replace(self.path)

    def _migrate(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone() == (self.version,):
            return
        with transaction(db):  # where several open an old store at once, one of them renews it
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for statement in (one for number in range(version, self.version) for one in self.migrations[number]):
                db.execute(statement)
            self._guard(db)
            db.execute(f"PRAGMA user_version = {self.version}")

    @staticmethod
    def _guard(db: sqlite3.Connection) -> None:
        """Rows of no table can be changed from now on."""
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for change in ("UPDATE", "DELETE"):
                stop = "SELECT RAISE(ABORT, 'rows are added, never changed')"
                db.execute(f"CREATE TRIGGER IF NOT EXISTS {table}_{change} BEFORE {change} ON {table} BEGIN {stop}; END")

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        if self._lock.is_locked:
            with contextlib.suppress(sqlite3.OperationalError):  # a reader still has it open
                self._db.execute("PRAGMA journal_mode = DELETE")  # one file, to be read from any disk
        self._db.close()
        self._lock.release()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reasons = {
                "SQLITE_FULL": f"is on a full disk: free some space and {self.when_full}",
                "SQLITE_CORRUPT": "is damaged: restore a copy, or start a new one",
            }
            what = getattr(error, "strerror", None) or error
            otherwise = f"cannot be written or read ({what}): name a store in a folder of yours"
            reason = reasons.get(getattr(error, "sqlite_errorname", ""), otherwise)
            raise DfalError(f"the store {self.path} {reason}") from error


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
