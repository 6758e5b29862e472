"""Reading files that may be damaged: any error becomes one sentence that says what to do."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dfal.errors import DfalError, first_line

RESTORE = "restore a copy, or start a new one"
"""What to do about a damaged store."""


@contextlib.contextmanager
def damage(
    what: str, cure: str = RESTORE, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn every exception of a block that reads a file into a `DfalError`.

    Bytes that were changed at random make parsers and the code behind them raise nearly anything,
    so that no list of exceptions would be complete. Keep other work out of the block.

    Args:
        what: the file, as a sentence begins with it: "the store labels.db".
        cure: what to do about it.
        passing: exceptions that are handled elsewhere; a `DfalError` always passes.

    Raises:
        DfalError: from any other exception of the block, which is its cause.
    """
    try:
        yield
    except DfalError:
        raise
    except passing:
        raise
    except MemoryError as error:
        raise DfalError(
            f"{what} is damaged, or larger than this machine's memory: {cure}"
        ) from error
    except Exception as error:
        raise DfalError(f"{what} is damaged ({first_line(error)}): {cure}") from error
    except BaseException as error:
        # What libraries written in Rust raise is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise DfalError(f"{what} is damaged ({first_line(error)}): {cure}") from error


def check_types(kind: type, settings: Mapping[str, Any]) -> None:
    """Check that settings read from a file are those of a dataclass, each of its type.

    Only types that JSON has are checked: str, bool, int, float, None, objects, and lists as tuples.

    Args:
        kind: the dataclass.
        settings: name → value.

    Raises:
        ValueError: for a setting that the class does not have, or of another type.
    """
    hints = get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind) if field.init}
    for name, value in settings.items():
        if name not in names:
            raise ValueError(f"there is no setting {name[:40]!r}")
        if not _fits(value, hints[name]):
            raise ValueError(f"the setting {name} is {repr(value)[:40]}")


def _fits(value: Any, hint: Any) -> bool:  # noqa: PLR0911  one for each kind of type
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return any(_fits(value, option) for option in get_args(hint))
    if hint is float:
        return type(value) in {int, float} and (value == math.inf or abs(value) < 2.0**1000)
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    if hint is str:
        return type(value) is str and "\0" not in value
    if hint in {bool, NoneType}:
        return type(value) is hint
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(item, inner[0]) for item in value)
        return len(inner) == len(value) and all(map(_fits, value, inner))
    if get_origin(hint) is dict:
        return isinstance(value, dict)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return callable(value) or not getattr(hint, "_is_protocol", False)
