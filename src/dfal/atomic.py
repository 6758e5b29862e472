"""Writing files atomically: a reader finds the old file or the new one, never half of it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dfal.errors import DfalError


@contextlib.contextmanager
def atomic_write(path: Path, cure: str = "name another file", what: str = "") -> Iterator[Path]:
    """Yield the path of a new file that replaces `path` when the block ends without an exception.

    A full disk, Ctrl-C or a crash leaves `path` as it was; what a killed process leaves next to it
    is removed by the next one. A link stays a link: its target is replaced. What is no regular
    file, such as /dev/null or a named pipe, is written to directly.

    Args:
        path: the file to write; its folder must exist.
        cure: what to do where it cannot be written, for the error's sentence.
        what: what is written, for the same sentence: "the model".

    Raises:
        DfalError: where the file cannot be written.
    """
    name = f"{what} {path}" if what else str(path)
    part: Path | None = None
    try:
        if path.name in {"", ".", ".."} or path.is_dir():
            raise DfalError(f"{name} cannot be written (it is a folder): {cure}")
        # Before links are followed: those of /dev/fd lead nowhere.
        if path.exists() and not path.is_file():
            yield path
            return
        target = Path(os.path.realpath(path))
        _remove_abandoned(target)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        yield part
        if target.exists():
            shutil.copymode(target, part)
        # Its content is on the disk before its name is: a power failure leaves no empty file.
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise DfalError(f"{name} cannot be written ({error.strerror or error}): {cure}") from None
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _remove_abandoned(target: Path) -> None:
    """Remove unfinished files of this target, of killed processes and of this one."""
    head, tail = f".{target.name}.", ".part"
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        number = path.name.removeprefix(head).removesuffix(tail)
        if path.name == f"{head}{number}{tail}" and number.isdecimal() and not _runs(int(number)):
            with contextlib.suppress(OSError):
                path.unlink()


def _runs(process: int) -> bool:
    """Return whether another process of this number may be running."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # there is no signal that only asks
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True
