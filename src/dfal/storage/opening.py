"""Opening the file of a store: locked, checked, and brought up to date."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypeVar

import filelock

from dfal.damage import RESTORE, damage
from dfal.errors import DfalError, first_line
from dfal.storage.errors import explain, is_sqlite_error
from dfal.storage.paths import companion, identity, real_path, remove_companions, size
from dfal.storage.tables import (
    Schema,
    create_tables,
    expected_objects,
    migrate,
    schema_objects,
    transaction,
)

Opened = TypeVar("Opened", bound="LedgerFile")
FULLY_CHECKED_BYTES = 32 * 2**20
"""Size up to which all pages of a file are checked when it is opened, which takes some 30 ms."""


class LedgerFile(Schema):
    """The open file of a `Ledger`.

    Args:
        path: the file. A writer makes it where there is none, and its folder. A link stands for its
            target.
        write: whether to add rows.

    Raises:
        DfalError: for a file that is no ledger of this kind, of a newer version, not there, not
            writable, damaged, or in use.
    """

    maker: ClassVar[str]
    """The command that makes such files."""
    when_full: ClassVar[str]
    """What to do once there is space on the disk again."""
    shared: ClassVar[bool] = False
    """Whether several processes, and threads that take turns, may write."""
    patience: ClassVar[float] = 30.0
    """Seconds to wait for another process that writes."""

    def __init__(self, path: Path | str, *, write: bool = False):
        self.path = real_path(path)
        # The lock's file stays: removing it would let two writers hold locks on two files of one
        # name.
        self._lock = filelock.FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._file: os.stat_result | None = None
        """The status of the file that is open for writing."""
        self._wal: tuple[int, int] | None = None
        """The identity of its log."""
        with self._sqlite_errors():
            self._refuse_foreign(write)
            if write and not self.shared:
                self._acquire()
            try:
                self._db = self._open_to_write() if write else self._open_to_read()
            except BaseException:
                self._release()
                raise

    def _refuse_foreign(self, write: bool) -> None:
        """Raise for a file that is no store of this kind, which is left as it is, to the byte."""
        if not self.path.exists() and not write:
            raise DfalError(f"there is no store {self.path}: name one that `{self.maker}` made")
        if self.path.is_dir():
            raise DfalError(
                f"{self.path} is a folder and cannot be used as a store: name a file in it"
            )
        if self.path.exists() and not self.path.is_file():
            raise DfalError(f"{self.path} is not a file and cannot be used as a store: name one")
        if not size(self.path):
            if not write:
                raise DfalError(
                    f"the store {self.path} is empty: let `{self.maker}` write to it first"
                )
            return
        with self.path.open("r+b" if write else "rb") as file:
            header = file.read(100)
        if header[:16] != b"SQLite format 3\0":
            raise DfalError(f"{self.path} is not a dfal store: name another file")
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
        """Lock the file for this writer alone."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Where it cannot be written, filelock says only that it waited.
            Path(self._lock.lock_file).open("ab").close()
            self._lock.acquire()
        except filelock.Timeout:
            raise DfalError(
                f"another process writes to {self.path}: wait for it, or name another store"
            ) from None

    def _release(self) -> None:
        """Unlock the file, and remove the copy that was read, if there is one."""
        self._lock.release()
        if self._copy:
            self._copy.cleanup()

    def _open_to_write(self) -> sqlite3.Connection:
        if not size(self.path):
            self._create_file()
        db = self._connect(str(self.path))
        with _closed_on_error(db):
            self._check_schema(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA recursive_triggers = ON")  # REPLACE is a change, too
            migrate(db, type(self))
            self._file, self._wal = self.path.stat(), identity(companion(self.path, "-wal"))
        return db

    def _create_file(self) -> None:
        """Make a new store, which is there whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
            create_tables(db, type(self))
        remove_companions(self.path)
        part.replace(self.path)

    def _open_to_read(self) -> sqlite3.Connection:
        """Open the file as it is; of an older version, a copy in memory, brought up to date."""
        try:
            db = self._connect(str(self.path))
            with _closed_on_error(db):
                self._check_schema(db)
        except sqlite3.OperationalError as error:
            if not is_sqlite_error(error, "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR"):
                raise
            db = self._open_on_read_only_disk()
        with _closed_on_error(db):
            if db.execute("PRAGMA user_version").fetchone() == (self.version,):
                db.execute("PRAGMA query_only = ON")
                return db
        with contextlib.closing(db) as old:
            db = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=not self.shared
            )
            with _closed_on_error(db):
                old.backup(db)
                migrate(db, type(self))
                db.execute("PRAGMA query_only = ON")
        return db

    def _open_on_read_only_disk(self) -> sqlite3.Connection:
        """Open a store where SQLite cannot make the files that it needs next to it.

        Where such files are there and hold rows, a copy of all of them is opened.
        """
        endings = [ending for ending in ("-wal", "-journal") if size(companion(self.path, ending))]
        if endings:
            self._copy = tempfile.TemporaryDirectory(prefix="dfal-", ignore_cleanup_errors=True)
            copy = Path(self._copy.name) / self.path.name
            for ending in ("", *endings):
                shutil.copyfile(companion(self.path, ending), companion(copy, ending))
            db = self._connect(str(copy))
        else:
            db = self._connect_immutable()
        with _closed_on_error(db):
            self._check_schema(db)
        return db

    def _connect_immutable(self) -> sqlite3.Connection:
        """Open the file alone, without its log and without locks; it must not change meanwhile."""
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

    def _check_schema(self, db: sqlite3.Connection) -> None:
        """Raise unless the file has the tables, indices and triggers that dfal makes.

        Others may have put in a view without end, a trigger, or a table that only looks like ours.
        The pages of a small file are checked, too.
        """
        with transaction(db, "DEFERRED"):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if schema_objects(db) != expected_objects(type(self), version):  # type: ignore[arg-type]
                raise DfalError(
                    f"the store {self.path} is damaged, or was changed (its tables, indices or"
                    f" triggers are not those of `{self.maker}`): {RESTORE}"
                )
        if (size(self.path) or 0) <= FULLY_CHECKED_BYTES:
            ((answer,),) = db.execute("PRAGMA quick_check(1)").fetchall()
            if answer != "ok":  # a line "*** in database main ***" may come before what is wrong
                what = first_line(ValueError(answer.splitlines()[-1]))
                raise DfalError(f"the store {self.path} is damaged ({what}): {RESTORE}")

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        self._db.close()
        self._release()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Turn the errors of SQLite and of the system into one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            reason = explain(error, self.path, self.when_full)
            raise DfalError(f"the store {self.path} {reason}") from error

    @contextlib.contextmanager
    def _damage_errors(self) -> Iterator[None]:
        """Take any error of a block that reads rows, which dfal cannot have written, for damage."""
        try:
            with (
                self._sqlite_errors(),
                damage(
                    f"the store {self.path}", passing=(sqlite3.Error, OSError, UnicodeDecodeError)
                ),
            ):
                yield
        except DfalError as error:  # a check's own sentence says what of it is wrong, and not where
            if str(self.path) in str(error):
                raise
            raise DfalError(f"the store {self.path}: {error}") from error


@contextlib.contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    """Close a connection where a block raises an exception."""
    try:
        yield
    except BaseException:
        db.close()
        raise
