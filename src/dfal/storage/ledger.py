"""Adding rows to a store whose file may be deleted or replaced while it is open."""

import contextlib
import errno
import os
import sqlite3
import uuid
from collections.abc import Iterator

from dfal.errors import DfalError
from dfal.storage.opening import LedgerFile
from dfal.storage.paths import companion, identity, remove_companions, size, status
from dfal.storage.tables import has_more_rows, table_names, transaction

DELETED, REPLACED, WITHOUT_LOG = "deleted", "replaced", "without its log"
"""What may have become of an open file."""
LOSSES = {
    DELETED: (
        "was deleted or moved",
        "put it back, or make its folder writable: all rows are written back there",
    ),
    REPLACED: (
        "was replaced by another file",
        "move that file away: all rows are written back there",
    ),
    WITHOUT_LOG: (
        "has lost the file with the ending -wal beside it",
        "stop all programs that have it open and start them again",
    ),
}
"""What the sentence of the error says of each, and what to do."""


class Ledger(LedgerFile):
    """A SQLite file to which rows are added and never changed.

    One process may have it open for writing, any number for reading; a ledger that is `shared` may
    be written to by several processes, and by several threads of one that take turns.

    A file of another schema than this class's is refused before a row is read: no view and no
    trigger of others runs. Where nothing can be written a reader still reads. A writer notices that
    its file was deleted or replaced.
    """

    _refused: tuple[int, int] | None = None
    """The identity of a file at the path that does not have all rows."""

    @contextlib.contextmanager
    def _adding(self) -> Iterator[sqlite3.Connection]:
        """Run a block in a transaction on the file at the path: nothing is added to a deleted one.

        Raises:
            DfalError: with a cause, where the file is gone and its rows cannot be written back.
        """
        if self._file is None:
            raise DfalError(f"the store {self.path} was opened to be read only: open it to write")
        self._recover()
        with transaction(self._db) as db:
            if loss := self._loss():  # only now nobody else can be writing it back
                raise self._not_saved(loss)
            yield db
        self._wal = self._wal or identity(companion(self.path, "-wal"))
        self._recover()

    def _loss(self) -> str:
        """Return what has become of the open file; empty where it is at its path."""
        now = status(self.path)
        if now is None:
            return DELETED
        before = self._file or now
        # A file that was written over is another one, too: stores never become smaller.
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino) or (
            now.st_size < before.st_size
        ):
            return REPLACED
        self._file = now
        if self._wal and identity(f"{self.path}-wal") != self._wal:
            return WITHOUT_LOG
        return ""

    def _recover(self) -> None:
        """Write all rows back where the file was deleted; reopen it where it was replaced.

        Raises:
            DfalError: where that fails, or the file that took its place lacks rows.
        """
        if not (loss := self._loss()):
            return
        try:
            if loss == DELETED:
                self._write_back()
            if loss == WITHOUT_LOG:
                if not companion(self.path, "-wal").exists():
                    # The rows in the log go into the file.
                    self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                raise self._not_saved(loss)
            self._reopen()
        except (OSError, sqlite3.Error, DfalError) as error:
            raise self._not_saved(loss) from error

    def _follow(self) -> None:
        """Reopen a file that another process has written back, before it is read.

        Otherwise nothing new would ever be seen. A file that lacks rows is looked at once.
        """
        if self._file is None or self._loss() != REPLACED:
            return
        if self._refused == (now := identity(self.path)):
            return
        try:
            self._reopen()
        except (OSError, sqlite3.Error, UnicodeDecodeError, DfalError):
            self._refused = now

    def _not_saved(self, loss: str) -> DfalError:
        what, cure = LOSSES[loss]
        error = DfalError(
            f"the store {self.path} {what} while it was open, and nothing is saved now: {cure}"
        )
        error.__cause__ = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        return error

    def _write_back(self) -> None:
        """Write the deleted file, which is still open, to its path.

        A file that is there already is left as it is.

        Raises:
            FileNotFoundError: where the folder is gone, or is on another disk.
        """
        folder = self.path.parent
        if self._file is None or folder.stat().st_dev != self._file.st_dev:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        part = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.part")
        with transaction(self._db):  # others that have it open wait, and then find the new file
            if self.path.exists():  # one of them was first
                return
            content = bytearray(self._db.serialize())
            content[18:20] = b"\1\1"  # a file without a log next to it
            try:
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                remove_companions(self.path)
                try:
                    os.link(part, self.path)  # fails where something is there
                except FileExistsError:
                    return
                except OSError:  # a file system without links
                    part.rename(self.path)
            finally:
                part.unlink(missing_ok=True)

    def _reopen(self) -> None:
        """Open the file that is at the path now, if it has every row of the one that is open.

        The log of the open file may lie next to it, and SQLite would write its pages into a file
        that they do not belong to.

        Raises:
            DfalError: where it lacks rows, or is no store.
        """
        if not size(self.path):
            raise self._not_saved(REPLACED)
        self._refuse_foreign(write=True)
        with transaction(self._db):  # of several that have the old file open, one at a time
            if self._wal and identity(companion(self.path, "-wal")) == self._wal:
                with contextlib.closing(self._connect_immutable()) as new:
                    self._check_schema(new)
                    self._check_rows(new)
                remove_companions(self.path)
        before = self._file, self._wal
        new = self._open_to_write()
        try:
            self._check_rows(new)
        except BaseException:
            new.close()
            self._file, self._wal = before
            raise
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._db = new

    def _check_rows(self, new: sqlite3.Connection) -> None:
        """Raise unless a file has every row of the one that is open."""
        if any(has_more_rows(self._db, new, table) for table in table_names(self._db)):
            raise self._not_saved(REPLACED)

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        if self._lock.is_locked and not self._loss():
            # Without a log it is one file, which can be read from any disk. It fails where a
            # reader still has it open.
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                self._db.execute("PRAGMA journal_mode = DELETE")
        super().close()
