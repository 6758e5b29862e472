"""Options that are settings of a dataclass, and options that several commands have."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dfal.cli import completion
from dfal.cli.commands import option
from dfal.errors import DfalError

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
STDOUT = Path("-")
"""What stands for standard output in an option that names a file to write."""

COMPLETERS = {
    "dataset": completion.datasets,
    "model": completion.networks,
    "other": completion.networks,
    "backbone": completion.backbones,
    "strategy": completion.strategies,
}
"""Name of a setting → what completes its value."""

quiet_option = option(
    "-q", "--quiet", is_flag=True, group="Output", help="Print errors only, and no progress."
)
processes_option = option(
    "--processes",
    type=click.IntRange(1),
    group="Computation",
    help="Trials to run at a time, one thread each.  [default: the number of cores; 1 on a GPU]",
)
network_option = option(
    "--model",
    "network",
    metavar="NAME",
    group="Model",
    help="The package.module:function that built the network, if its code may be run.",
)


def json_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds `--json`, which prints `what` as JSON and nothing else."""
    return option("--json", "as_json", is_flag=True, group="Output", help=f"Print {what} as JSON.")


def settings(
    kind: type, *names: str, group: str, preset: bool = False, defaults: object = None
) -> Callable[[F], F]:
    """Return a decorator that adds an option for each field of a configuration that has a help.

    Name, type, default and help are the field's.

    Args:
        kind: a dataclass.
        names: of the fields; without any all that have a help.
        group: the heading of the options.
        preset: whether the defaults are those of a preset, and not of the fields.
        defaults: an object of that kind whose values are the defaults; those of the fields without.
    """

    def decorate(function: F) -> F:
        for field in reversed(fields(kind)):
            if field.name in names or (not names and "help" in field.metadata):
                default = getattr(defaults, field.name, field.default)
                type_of_value = int if default is None else type(default)
                text = field.metadata["help"]
                function = option(
                    "--" + field.name.replace("_", "-"),
                    group=group,
                    type=type_of_value,
                    is_flag=type_of_value is bool,
                    default=None if preset else default,
                    show_default=not preset and default != "",
                    shell_complete=COMPLETERS.get(field.name),
                    help=f"{text[0].upper()}{text[1:]}.",
                )(function)
        return function

    return decorate


def options_given(context: click.Context) -> dict[str, Any]:
    """Return the options and arguments that stand in the command line, by their names."""
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def strategy_names(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names of strategies in options that may hold several with commas.

    Names that `dfal strategies` lists are in lower case, whatever was typed.
    """
    names = (name.strip() for names in given for name in names.split(","))
    return tuple(name if ":" in name else name.lower() for name in names if name)


def candidate_count(text: str) -> int | None:
    """Return K as the command line gives it; None for all.

    Raises:
        DfalError: for what is neither a number nor "all".
    """
    if text != "all" and not text.isdecimal():
        raise DfalError(f"--candidates {text!r} is neither a number of images nor 'all'")
    return None if text == "all" else int(text)
