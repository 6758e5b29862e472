"""dfal completion: words that a shell completes, from the registries."""

from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from dfal.cli.commands import Command
from dfal.registry import Registry


@click.command(
    cls=Command,
    examples=[
        ("bash", "completion bash > ~/.local/share/bash-completion/completions/dfal"),
        ("zsh, where ~/.zfunc is in fpath", "completion zsh > ~/.zfunc/_dfal"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and registered names.

    Registered names are those of strategies, data sets, networks, backbones, executors, formats and
    presets.

    For fish, write it to ~/.config/fish/completions/dfal.fish.
    """
    script_of = get_completion_class(shell)
    if script_of is not None:
        script = script_of(context.find_root().command, {}, "dfal", "_DFAL_COMPLETE")
        click.echo(ShellComplete.source(script))  # bash's own looks for a bash first


def strategies(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last of several strategies with commas."""
    from dfal.strategies import STRATEGIES

    before, comma, last = incomplete.rpartition(",")
    names = [*STRATEGIES, *(f"{name}+twins" for name in STRATEGIES if "+" in last)]
    return [
        CompletionItem(f"{before}{comma}{name}", help=STRATEGIES.about(name.removesuffix("+twins")))
        for name in names
        if name.startswith(last)
    ]


def _names(registry: Registry[Any], incomplete: str) -> list[CompletionItem]:
    """Complete a name of a registry."""
    return [
        CompletionItem(name, help=registry.about(name))
        for name in registry
        if name.startswith(incomplete)
    ]


def datasets(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a data set, or the path of a file or folder."""
    from dfal.data.datasets import DATASETS

    return _names(DATASETS, incomplete) or [CompletionItem(incomplete, type="file")]


def executors(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an executor."""
    from dfal.experiments.executors import EXECUTORS

    return _names(EXECUTORS, incomplete)


def files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the path of a file."""
    return [CompletionItem(incomplete, type="file")]


def networks(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a network."""
    from dfal.nn import NETWORKS

    return _names(NETWORKS, incomplete)


def backbones(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a backbone."""
    from dfal.backbones import BACKBONES

    return _names(BACKBONES, incomplete)


def presets(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a preset."""
    from dfal.reproduce.settings import PRESETS

    return _names(PRESETS, incomplete)
