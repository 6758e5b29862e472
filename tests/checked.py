"""The run-time type checker of the tests: beartype, where a whole number may stand for a float.

Functions within functions are left out: each call of the outer one would make their checks anew,
which takes many times as long as a step of a training.
"""

from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(something: Any) -> Any:
    """Return a function or class whose arguments and results are checked."""
    is_within = "<locals>" in getattr(something, "__qualname__", "")
    return something if is_within else _checked(something)
