"""The user's own code by its name, package.module:name, and what went wrong in it."""

import importlib
import traceback
from pathlib import Path
from typing import Any

from dfal.errors import DfalError


def load_object(kind: str, name: str) -> Any:
    """What `package.module:name` is called in its module.

    Raises:
        DfalError: where it is not there, or its module cannot be imported. `kind` says what it was
        to be.
    """
    module, _, inside = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
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
    for part in inside.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__file__", None) or module
            raise DfalError(
                f"the {kind} {name!r} cannot be found (there is no {part!r} in {where}): give"
                " package.module:name"
            )
        found = getattr(found, part)
    return found


def describe_exception(error: BaseException) -> str:
    """An exception of the user's code in a few words, with the line in which it was raised."""
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{what}, {where}" if (where := line_of_user_code(error)) else what


def line_of_user_code(error: BaseException) -> str:
    """Return the line of the user's code in which an exception was raised, in words; empty where
    there is none."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    theirs = next(
        (frame for frame in frames if not any(part in frame.filename for part in _LIBRARIES)), None
    )
    return "" if theirs is None else f"in {Path(theirs.filename).name}, line {theirs.lineno}"


_LIBRARIES = (str(Path(__file__).parent), "site-packages", "importlib", "<")
