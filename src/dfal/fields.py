"""Fields of configurations."""

from dataclasses import field
from typing import Any


def setting(default: Any, help: str) -> Any:
    """A field of a configuration: its default and its help text, written once for Python and the
    command line."""
    return field(default=default, metadata={"help": help})


def added(default: Any) -> Any:
    """A field that a configuration did not have from the beginning: at its default it is not
    stored, so that ids stay."""
    return field(default=default, metadata={"added": True})
