"""Registries: the names under which things of one kind are known, without importing any of them."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dfal.errors import unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One name of a registry.

    Attributes:
        target: `package.module:name`, or the module itself as `package.module`, imported when it
            is first needed.
        about: one line of help, which begins in lower case and has no full stop.
    """

    target: str
    about: str


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind of thing. Names and help are there at once; a thing is imported when it is
    asked for.

    >>> attacks = Registry("attack", {"fgsm": Entry("dfal.attacks.fgsm:FGSM", "one signed step")})
    >>> list(attacks), attacks.about("fgsm"), attacks["fgsm"].__name__
    (['fgsm'], 'one signed step', 'FGSM')

    Args:
        kind: what the things are called in a sentence, in the singular.
        entries: by name, in the order in which help and docs list them.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]):
        self.kind, self._entries = kind, dict(entries)

    def __getitem__(self, name: str) -> T:
        """Import what goes by a name.

        Raises:
            DfalError: for a name that is not there; it offers the nearest one.
        """
        module, _, attribute = self.entry(name).target.partition(":")
        found: Any = importlib.import_module(module)
        thing: T = getattr(found, attribute) if attribute else found
        return thing

    def get(self, name: str, default: Any = None) -> Any:
        """Import what goes by a name; return the default where the name is not there."""
        return self[name] if name in self else default  # noqa: SIM401  this is get

    def entry(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            DfalError: for a name that is not there; it offers the nearest one.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def about(self, name: str) -> str:
        """Return the line of help of a name."""
        return self.entry(name).about

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
