"""Frozen dataclasses as JSON text, whose hash is the id of a configuration."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from dfal.attacks import ATTACKS
from dfal.damage import check_types
from dfal.errors import DfalError, first_line
from dfal.nn.training import Training
from dfal.strategies import STRATEGIES, CustomStrategy, WithCoverage, WithTwins
from dfal.strategies.custom import custom


def id_of(text: str) -> str:
    """Return the id of a configuration: SHA-256 of its text, shortened.

    A kind that was stored under a module path is hashed under it for ever, so that its ids stay.
    """
    for name, first in FIRST_NAMES.items():
        if text.startswith(f'{{"{name}": '):
            text = f'{{"{first}": ' + text.removeprefix(f'{{"{name}": ')
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(value: Any) -> str:
    """Return a configuration as text, from which `from_json` makes an equal one."""
    return json.dumps(_encode(value), sort_keys=True)


Kind = TypeVar("Kind")


def from_json(kind: type[Kind], text: str, code: Sequence[Any] = ()) -> Kind:
    """Return the configuration of that kind from its text.

    Nothing is imported, and only dfal's own classes are made: a custom strategy or attack becomes a
    `CustomStrategy` that can be read and compared, but not called, unless it is in `code`.

    Args:
        kind: the class of the configuration, such as `Trial`.
        text: the configuration.
        code: custom strategies and attacks whose classes may be made.

    Raises:
        DfalError: for a text of another kind, or a damaged one.
        MemoryError: if there is not enough memory.
    """
    kinds: dict[str, Callable[..., Any]] = {**BARE, **dict.fromkeys(_names(kind), kind)}
    for value in code:
        kinds |= _theirs(value)
    try:
        value = _decode(json.loads(text, parse_constant=_refuse_constant), kinds)
    except (DfalError, MemoryError):
        raise
    except Exception as error:  # a text that was changed makes a class fail in any way
        raise DfalError(
            f"{text[:60]!r} is no {kind.__name__.lower()} ({first_line(error)})"
        ) from error
    if not isinstance(value, kind):
        raise DfalError(f"{text[:60]} is no {kind.__name__.lower()}")
    return value


def is_kind(kind: type, text: str) -> bool:
    """Return whether a text is a configuration of that kind."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(stored, dict) and len(stored) == 1 and not stored.keys().isdisjoint(_names(kind))
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is never written")


BARE: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Training,
        *ATTACKS.values(),
        *map(type, STRATEGIES.values()),
        WithCoverage,
        WithTwins,
    )
}
"""Classes that are stored under their name alone; kinds of jobs add themselves by `stored_kind`."""

FIRST_NAMES: dict[str, str] = {}
"""Kinds of jobs that were stored under a module path at first: short name → that path."""


def stored_kind(kind: type[Kind], name: str, first_name: str = "") -> None:
    """Store a kind of job under a short name, wherever its class is.

    Args:
        kind: the class.
        name: the short name.
        first_name: the name under which it was stored at first, and is still read.
    """
    BARE[name] = kind
    if first_name:
        FIRST_NAMES[name] = first_name


def parts(value: Any) -> Iterator[Any]:
    """Yield a configuration and all values in it, the outer ones first."""
    yield value
    if dataclasses.is_dataclass(value) and not isinstance(value, CustomStrategy | type):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))


def _theirs(value: Any) -> dict[str, Callable[..., Any]]:
    """Return what makes a custom strategy and its parts, by their stored names."""
    kinds: dict[str, Callable[..., Any]] = {}
    for part in parts(value):
        if dataclasses.is_dataclass(part) and not isinstance(part, CustomStrategy | type):
            kinds[_name(type(part))] = type(part)
        elif (known := custom(part)) is not None:
            kinds[known.name] = lambda known=known: known
    return kinds


def _encode(value: Any) -> Any:
    """Return a configuration as a JSON value.

    A dataclass is {its name: {field: value}}; infinity is the text "inf".

    Raises:
        DfalError: for a value that cannot be stored.
    """
    if isinstance(value, CustomStrategy):
        return {value.name: {name: _encode(setting) for name, setting in value.settings}}
    if dataclasses.is_dataclass(value):
        name = _name(type(value))
        fields = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            name: {
                field.name: _encode(setting)
                for field, setting in fields.items()
                if not (field.metadata.get("added") and setting == field.default)
            }
        }
    if isinstance(value, tuple):
        return [_encode(part) for part in value]
    if isinstance(value, float):
        return "inf" if value == float("inf") else int(value) if value.is_integer() else value
    if value is None or isinstance(value, str | int):
        return value
    if (known := custom(value)) is not None:
        return {known.name: {}}
    if callable(value):
        raise DfalError(
            f"{value!r} cannot be stored, as no name finds it again: make it a frozen dataclass, or"
            " a function at the top of its module"
        )
    raise DfalError(
        f"{value!r} in a strategy cannot be stored: its settings must be numbers, texts, tuples or"
        " dataclasses"
    )


def _name(kind: type) -> str:
    """Return the name under which a class is stored."""
    return next(
        (name for name, known in BARE.items() if known is kind),
        f"{kind.__module__}.{kind.__qualname__}",
    )


def _names(kind: type) -> list[str]:
    """Return the names under which a kind may be stored, today's first."""
    name = _name(kind)
    return [name, FIRST_NAMES[name]] if name in FIRST_NAMES else [name]


def _decode(value: Any, kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """Return a configuration from its JSON; classes not in `kinds` become a `CustomStrategy`."""
    if isinstance(value, dict):
        ((name, fields),) = value.items()
        settings = {key: _decode(part, kinds) for key, part in fields.items()}
        if name not in kinds:
            return CustomStrategy(name, tuple(sorted(settings.items())))
        if kinds[name] is BARE.get(name):
            check_types(kinds[name], settings)  # type: ignore[arg-type]
        return kinds[name](**settings)
    if isinstance(value, list):
        return tuple(_decode(part, kinds) for part in value)
    return float("inf") if value == "inf" else value
