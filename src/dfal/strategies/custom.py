"""A strategy or attack that is not dfal's own: under which name it is stored, and what is known of
it without its code."""

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
    """What is stored of something that is not dfal's own. Equal where name and settings are.

    Attributes:
        name: module.Class of a dataclass, module:name of a function or of any other object.
        settings: the fields of the dataclass with their values.
        code: what is called; None where it was read from a store, which may name no code.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    code: Callable[..., Any] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return self.label

    def __call__(self, *arguments: Any) -> Any:
        """What the code does.

        Raises:
            DfalError: where there is none.
        """
        if self.code is None:
            raise DfalError(
                f"{self.label} is none of dfal's own and a store may name no code: say --strategy"
                f" {self.option}"
            )
        return self.code(*arguments)

    @property
    def option(self) -> str:
        """Its name on the command line."""
        module, _, name = self.name.replace(":", ".").rpartition(".")
        return self.name if ":" in self.name else f"{module}:{name}"

    @property
    def label(self) -> str:
        """Its name in legends: that of the command line with its settings, whatever its
        candidates."""
        settings = ", ".join(
            f"{name}={value!r}" for name, value in self.settings if name != "candidates"
        )
        name = self.option.removeprefix("__main__:")
        return f"{name}({settings})" if settings else name


def custom(value: Any) -> CustomStrategy | None:
    """What is stored of a function, or of a dataclass of the user's; None where no name finds
    it."""
    if isinstance(value, CustomStrategy):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = tuple(
            sorted((one.name, getattr(value, one.name)) for one in dataclasses.fields(value))
        )
        return CustomStrategy(
            f"{kind.__module__}.{kind.__qualname__}", fields, value if callable(value) else None
        )
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if (
        not inspect.isfunction(value)
        or getattr(sys.modules.get(str(module)), str(name), None) is not value
    ):
        return None
    return CustomStrategy(f"{module}:{name}", (), value)


def load_custom(name: str) -> Any:
    """The strategy `package.module:name`: an object is taken as it is, a class is called without
    arguments.

    Raises:
        DfalError: for a name that is not there, a class that needs arguments, and what cannot be
        called.
    """
    found = load_object("strategy", name)
    if isinstance(found, type):
        try:
            found = found()
        except DfalError:
            raise
        except Exception as error:  # it is the user's code, which may raise anything
            raise DfalError(
                f"the strategy {name} cannot be made without arguments"
                f" ({describe_exception(error)}): give its fields defaults, or name an object of"
                " that class in its module"
            ) from error
    if not callable(found):
        raise DfalError(
            f"the strategy {name} is {type(found).__name__}: a function (model, pool, k, rng) ->"
            " Query is needed"
        )
    return (
        found
        if dataclasses.is_dataclass(found)
        else custom(found) or CustomStrategy(name, (), found)
    )
