"""Errors whose text is written for the user."""

import difflib
from collections.abc import Iterable


class DfalError(ValueError):
    """Wrong use or bad input. Its text is one sentence that names what is wrong and what to do."""


class SettingError(DfalError):
    """A setting with a value that it cannot have.

    The command line says its option instead of its name.

    Args:
        name: of the setting.
        reason: what goes behind its name: "must be 1 or more (got 0)".
    """

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # so that pickle sends it from a worker
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


class Stopped(Exception):  # noqa: N818
    """Ctrl-C or SIGTERM. Its text says how to resume."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> DfalError:
    """Return the error for an unknown name, which suggests the nearest known one.

    Args:
        kind: what the names stand for, in the singular: "data set".
        name: the unknown name.
        known: all known names.
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return DfalError(f"there is no {kind} {name!r}: {hint} {', '.join(names)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text in at most 100 printable characters.

    Without a text, it is the name of the exception's class.
    """
    lines = (line.strip() for line in str(error).splitlines())
    line = next((line for line in lines if line), type(error).__name__)
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= 100 else line[:99] + "…"
