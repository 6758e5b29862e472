"""The file of a store on the disk, and the files that SQLite keeps next to it."""

import os
from pathlib import Path

COMPANIONS = ("-wal", "-shm", "-journal")
"""Endings of the files in which SQLite keeps what is not in the database yet."""


def real_path(path: Path | str) -> Path:
    """Return the target of a path that is a link, so that all names of a store have one lock."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def companion(path: Path, ending: str) -> Path:
    """Return the path of a file that SQLite keeps next to a database."""
    return path.with_name(path.name + ending)


def remove_companions(path: Path) -> None:
    """Remove what is left of a deleted database: SQLite would read it into a new one."""
    for ending in COMPANIONS:
        companion(path, ending).unlink(missing_ok=True)


def status(path: Path | str) -> os.stat_result | None:
    """Return the status of a file; None where there is none."""
    try:
        return os.stat(path)  # noqa: PTH116  four times an answer: a Path would take as long as the rest
    except (FileNotFoundError, NotADirectoryError):
        return None


def size(path: Path) -> int | None:
    """Return the bytes of a file; None where there is none."""
    file = status(path)
    return None if file is None else file.st_size


def identity(path: Path | str) -> tuple[int, int] | None:
    """Return device and inode of a file; None where there is none."""
    file = status(path)
    return None if file is None else (file.st_dev, file.st_ino)


def beside(store: Path, ending: str) -> Path:
    """Return the file next to a labelling store that has its name and another ending."""
    return store.with_name(store.name.removesuffix(".db").removesuffix(".labels") + ending)
