"""Registries: names of things of one kind, known without importing any of them."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dfal.errors import unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """Say where the thing of a name is and what it is.

    Attributes:
        target: `package.module:name`, or the module itself as `package.module`, imported when it
            is first needed.
        about: one line of help, which begins in lower case and has no full stop.
    """

    target: str
    about: str


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to things of one kind, which are imported when they are looked up.

    >>> attacks = Registry("attack", {"fgsm": Entry("dfal.attacks.fgsm:FGSM", "one signed step")})
    >>> list(attacks), attacks.about("fgsm"), attacks["fgsm"].__name__
    (['fgsm'], 'one signed step', 'FGSM')

    Args:
        kind: what a thing is called in a sentence: "data set".
        entries: by name, in the order in which help and docs list them.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]):
        self.kind, self._entries = kind, dict(entries)

    def __getitem__(self, name: str) -> T:
        """Import the thing of a name.

        Raises:
            DfalError: for an unknown name; it suggests the nearest one.
        """
        module, _, attribute = self.entry(name).target.partition(":")
        found: Any = importlib.import_module(module)
        thing: T = getattr(found, attribute) if attribute else found
        return thing

    def get(self, name: str, default: Any = None) -> Any:
        """Import the thing of a name; return the default for an unknown name."""
        return self[name] if name in self else default  # noqa: SIM401  this is get

    def entry(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            DfalError: for an unknown name; it suggests the nearest one.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def about(self, name: str) -> str:
        """Return the line of help of a name.

        Raises:
            DfalError: for an unknown name.
        """
        return self.entry(name).about

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
