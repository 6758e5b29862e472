"""Errors of SQLite and of the system in words."""

import errno
from pathlib import Path

from dfal.damage import RESTORE
from dfal.errors import first_line


def is_sqlite_error(error: Exception, *names: str) -> bool:
    """Return whether an error is one of SQLite's of these names, or a more precise kind of one."""
    error_name = getattr(error, "sqlite_errorname", "")
    return any(error_name == name or error_name.startswith(f"{name}_") for name in names)


def explain(error: Exception, path: Path, when_full: str) -> str:  # noqa: PLR0911  one for each cure
    """Say what is wrong with a store, and what to do, behind its name: "is damaged: …".

    Args:
        error: of SQLite or of the system.
        path: the store.
        when_full: what to do once there is space on the disk again.
    """
    what = first_line(
        OSError(error.strerror) if isinstance(error, OSError) and error.strerror else error
    )
    number = getattr(error, "errno", None)
    if is_sqlite_error(error, "SQLITE_FULL") or number in {errno.ENOSPC, errno.EDQUOT}:
        return f"is on a full disk: free some space and {when_full}"
    if is_sqlite_error(error, "SQLITE_BUSY", "SQLITE_LOCKED"):
        return "is being written to by another process: wait until it has finished, or stop it"
    if is_sqlite_error(
        error,
        "SQLITE_CORRUPT",
        "SQLITE_NOTADB",
        "SQLITE_FORMAT",
        "SQLITE_MISMATCH",
        "SQLITE_TOOBIG",
    ):
        return f"is damaged: {RESTORE}"
    # SQLite's own message of such a text ends like that.
    if isinstance(error, UnicodeDecodeError) or "Could not decode" in str(error):
        return f"is damaged (text that is not UTF-8): {RESTORE}"
    if is_sqlite_error(error, "SQLITE_ERROR") and any(
        word in str(error) for word in ("malformed", "no such table", "no such col")
    ):
        return f"is damaged ({what}): {RESTORE}"
    if is_sqlite_error(error, "SQLITE_IOERR"):
        return f"cannot be read or written ({what}): see to its disk, or restore a copy"
    if path.is_file() and (
        is_sqlite_error(error, "SQLITE_READONLY")
        or number in {errno.EACCES, errno.EPERM, errno.EROFS}
    ):
        return f"cannot be written here ({what}): copy it to a folder of yours and name the copy"
    return f"cannot be written or read ({what}): name a store in a folder of yours"
