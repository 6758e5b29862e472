"""Options of the command line that are fields of a configuration."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def settings(kind: type, *names: str) -> Callable[[F], F]:
    """Options for the fields of a configuration: name, type, default and help are the field's."""

    def decorate(function: F) -> F:
        for field in reversed(fields(kind)):
            if field.name in names or (not names and "help" in field.metadata):
                flag = "--" + field.name.replace("_", "-")
                function = click.option(
                    flag, type=type(field.default), default=field.default, show_default=True, help=field.metadata["help"] + "."
                )(function)
        return function

    return decorate
