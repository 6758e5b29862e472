"""What a format of `dfal export` is. The package lists all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfal.atomic import atomic_write
from dfal.errors import DfalError
from dfal.labelling.export.rows import Label
from dfal.models import SavedModel


@dataclass(frozen=True)
class LabelFormat:
    """A format for labels.

    Attributes:
        ending: of the default name of the file or folder, after the name of the store.
        write: writes rows. It receives the rows, the folder of the images and the path to write,
            and returns the paths of images that have vanished and are left out.
        takes: whether a row is written in this format.
    """

    ending: str
    write: Callable[[Sequence[Label], Path, Path], list[str]]
    takes: Callable[[Label], bool] = lambda row: True


@dataclass(frozen=True)
class ModelFormat:
    """A format for the latest model.

    Attributes:
        ending: of the default name of the file, after the name of the store.
        write: writes the model to a path.
    """

    ending: str
    write: Callable[[SavedModel, Path], None]


def check_target(path: Path, begin: bytes) -> None:
    """Check that writing a file replaces nothing but an earlier export.

    Args:
        path: of the file.
        begin: bytes with which every export of the format begins.

    Raises:
        DfalError: if the path is a folder, another file, or cannot be read.
    """
    if not path.name:
        raise DfalError(f"{path} is a folder: name a file with --out")
    try:
        with path.open("rb") as file:
            if file.read(len(begin)) != begin:
                raise DfalError(
                    f"{path} is there already and no such export: name another file with --out"
                )
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from None


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, which is there whole or not at all.

    Args:
        path: of the file. Missing folders above it are made.
        write: writes the file under a temporary name.

    Raises:
        DfalError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    with atomic_write(path, "name another with --out") as temporary:
        write(temporary)


def _unwritable(path: Path, error: OSError) -> DfalError:
    return DfalError(f"{path} cannot be written ({error.strerror}): name another with --out")
