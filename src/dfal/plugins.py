"""The user's own code, loaded as package.module:name, and its errors in words."""

import importlib
import traceback
from pathlib import Path
from typing import Any

from dfal.errors import DfalError


def load_object(kind: str, name: str) -> Any:
    """Import an object by its name.

    Args:
        kind: what the object is to be, for the sentence: "strategy".
        name: `package.module:name`; the part behind the colon may have dots.

    Raises:
        DfalError: where it does not exist, or its module cannot be imported.
    """
    module, _, attributes = name.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
    except Exception as error:  # it is the user's code, which may raise anything
        missing = (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{module}.".startswith(f"{error.name}.")
        )
        what = (
            "cannot be found" if missing or isinstance(error, ValueError) else "cannot be imported"
        )
        raise DfalError(
            f"the {kind} {name!r} {what} ({describe_exception(error)}): give package.module:name of"
            " a module in this folder or installed"
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(loaded, attribute):
            where = getattr(loaded, "__file__", None) or module
            raise DfalError(
                f"the {kind} {name!r} cannot be found (there is no {attribute!r} in {where}): give"
                " package.module:name"
            )
        loaded = getattr(loaded, attribute)
    return loaded


def unnamed_code(path: Path, kind: str, name: str, *, option: str = "") -> DfalError:
    """Return the refusal to run code that only a file names.

    Args:
        path: the file.
        kind: what the code is, for the sentence: "network".
        name: `package.module:name`.
        option: that allows it; by default the kind.
    """
    return DfalError(
        f"{path} was made with the {kind} {name}: say --{option or kind} {name} if its code may be"
        " run"
    )


def describe_exception(error: BaseException) -> str:
    """Describe an exception of the user's code in a few words, with the line that raised it."""
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{what}, {where}" if (where := line_of_user_code(error)) else what


def line_of_user_code(error: BaseException) -> str:
    """Name the line of the user's code that raised an exception; empty where there is none."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    for frame in frames:
        if not any(mark in frame.filename for mark in _LIBRARY_FILES):
            return f"in {Path(frame.filename).name}, line {frame.lineno}"
    return ""


_LIBRARY_FILES = (str(Path(__file__).parent), "site-packages", "importlib", "<")
"""What the name of a source file contains that is not the user's."""
