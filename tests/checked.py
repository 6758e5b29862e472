"""The run-time type checker of the tests: beartype, where a whole number may stand for a float.

A function within a function is made anew, and so are its checks, each time that the outer one is
called, as in every step of a training. So it is checked the first times only.
"""

from collections import Counter
from typing import Any

from beartype import BeartypeConf, beartype

MOST = 20
"""How often a function within a function is checked."""

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_made: Counter[tuple[str, str]] = Counter()


def checked(something: Any) -> Any:
    """Return a function or class whose arguments and results are checked."""
    name = getattr(something, "__qualname__", "")
    if "<locals>" in name:
        key = something.__module__, name
        _made[key] += 1
        if _made[key] > MOST:
            return something
    return _checked(something)
