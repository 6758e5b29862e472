"""Fields of configurations that are dataclasses."""

from dataclasses import field
from typing import Any


def setting(default: Any, help: str) -> Any:
    """Declare a field by its default and its help, both for Python and for the command line."""
    return field(default=default, metadata={"help": help})


def added(default: Any, help: str = "") -> Any:
    """Declare a field that was added later: at its default it is not stored, so that ids stay.

    Args:
        default: its value in everything that was stored before.
        help: as in `setting`; a field without one is no option of the command line.
    """
    return field(default=default, metadata={"added": True} | ({"help": help} if help else {}))
