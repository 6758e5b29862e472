"""Strategies and attacks from outside dfal: stored by name and settings, without their code."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dfal.errors import DfalError
from dfal.plugins import describe_exception, load_object


@dataclass(frozen=True, repr=False)
class CustomStrategy:
    """Name and settings of a strategy or attack from outside dfal, as they are stored.

    Two are equal where name and settings are.

    Attributes:
        name: module.Class of a dataclass, module:name of a function or of any other object.
        settings: the fields of the dataclass with their values.
        code: what is called; None where it was read from a store, which never imports code.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    code: Callable[..., Any] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return self.label

    def __call__(self, *arguments: Any) -> Any:
        """Call the code.

        Raises:
            DfalError: where it is not there, since it was read from a store.
        """
        if self.code is None:
            raise DfalError(
                f"{self.label} is none of dfal's own and a store may name no code: say --strategy"
                f" {self.option}"
            )
        return self.code(*arguments)

    @property
    def option(self) -> str:
        """Return its name on the command line."""
        module, _, name = self.name.replace(":", ".").rpartition(".")
        return self.name if ":" in self.name else f"{module}:{name}"

    @property
    def label(self) -> str:
        """Return its name in legends: that of the command line with all settings but candidates."""
        settings = ", ".join(
            f"{name}={value!r}" for name, value in self.settings if name != "candidates"
        )
        name = self.option.removeprefix("__main__:")
        return f"{name}({settings})" if settings else name


def custom(value: Any) -> CustomStrategy | None:
    """Return what is stored of a function or of a dataclass; None where no name finds it again."""
    if isinstance(value, CustomStrategy):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        settings = sorted(
            (field.name, getattr(value, field.name)) for field in dataclasses.fields(value)
        )
        return CustomStrategy(
            f"{kind.__module__}.{kind.__qualname__}",
            tuple(settings),
            value if callable(value) else None,
        )
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if (
        not inspect.isfunction(value)
        or getattr(sys.modules.get(str(module)), str(name), None) is not value
    ):
        return None
    return CustomStrategy(f"{module}:{name}", (), value)


def load_custom(name: str) -> Any:
    """Import the strategy `package.module:name`; a class is called without arguments.

    Raises:
        DfalError: for a name that is not there, a class that needs arguments, and what cannot be
        called.
    """
    strategy = load_object("strategy", name)
    if isinstance(strategy, type):
        try:
            strategy = strategy()
        except DfalError:
            raise
        except Exception as error:  # it is the user's code, which may raise anything
            raise DfalError(
                f"the strategy {name} cannot be made without arguments"
                f" ({describe_exception(error)}): give its fields defaults, or name an object of"
                " that class in its module"
            ) from error
    if not callable(strategy):
        raise DfalError(
            f"the strategy {name} is {type(strategy).__name__}: a function (model, pool, k, rng) ->"
            " Query is needed"
        )
    return (
        strategy
        if dataclasses.is_dataclass(strategy)
        else custom(strategy) or CustomStrategy(name, (), strategy)
    )
