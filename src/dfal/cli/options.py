"""Options of the command line that are fields of a configuration."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from dfal.errors import DfalError

F = TypeVar("F", bound=Callable[..., Any])


def settings(kind: type, *names: str, preset: bool = False) -> Callable[[F], F]:
    """Options for the fields of a configuration: name, type, default and help are the field's; with
    `preset` the default is a preset's."""

    def decorate(function: F) -> F:
        for field in reversed(fields(kind)):
            if field.name in names or (not names and "help" in field.metadata):
                flag, kind_of = "--" + field.name.replace("_", "-"), type(field.default)
                function = click.option(
                    flag,
                    type=kind_of,
                    is_flag=kind_of is bool,
                    default=None if preset else field.default,
                    show_default=not preset,
                    help=field.metadata["help"] + ".",
                )(function)
        return function

    return decorate


class _Path(click.ParamType):  # type: ignore[type-arg]
    """A path that is not empty: an empty one, of a variable that is not set, would be the working
    directory."""

    def __init__(self, inner: click.Path):
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "" and param is not None:
            name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            raise DfalError(f"{name} is empty: name a file or folder, or leave it out")
        return self.inner.convert(value, param, ctx)


def refuse_empty_paths(command: click.Command) -> None:
    """Let every option and argument of a command that is a path refuse an empty one."""
    for param in command.params:
        if isinstance(param.type, click.Path):
            param.type = _Path(param.type)


def strategy_names(given: Sequence[str]) -> tuple[str, ...]:
    """The names of strategies in options that may hold several with commas; those of `dfal
    strategies` in small letters."""
    names = (name.strip() for names in given for name in names.split(","))
    return tuple(name if ":" in name else name.lower() for name in names if name)


def candidates(text: str) -> int | None:
    """K as the command line gives it; None for all."""
    if text != "all" and not text.isdecimal():
        raise DfalError(f"--candidates {text!r} is neither a number of images nor 'all'")
    return None if text == "all" else int(text)
