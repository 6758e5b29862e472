"""The commands by name, and the layout of their help.

Commands stand in sections, options under headings, examples at the end.
"""

import shutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dfal.errors import DfalError, unknown_name
from dfal.registry import Entry, Registry

SECTIONS = {
    "Label": {
        "label": Entry("dfal.cli.label:label", "label a folder of images on a page"),
        "train": Entry("dfal.cli.train:train", "train a final model on the labels of a store"),
        "export": Entry("dfal.cli.export:export", "export the labels of a store, or its model"),
        "select": Entry("dfal.cli.select:select", "select images of a large pool to label"),
        "predict": Entry("dfal.cli.predict:predict", "label images with a saved model"),
        "model": Entry("dfal.cli.model:model", "show the card of a saved model"),
    },
    "Study": {
        "run": Entry("dfal.cli.run:run", "compare query strategies on labelled data"),
        "reproduce": Entry(
            "dfal.cli.reproduce:reproduce", "reproduce a table or figure of the paper"
        ),
        "report": Entry("dfal.cli.report:report", "show the tables of a study, write its page"),
    },
    "Look up": {
        "strategies": Entry("dfal.cli.strategies:strategies", "list the query strategies"),
        "backbones": Entry("dfal.cli.backbones:backbones", "list the pretrained networks"),
        "data": Entry("dfal.cli.data:data", "list the data sets, or show one"),
        "completion": Entry(
            "dfal.cli.completion:completion", "print a script that completes words in your shell"
        ),
    },
}
"""Section of the help → name of a command → where it is defined, and a line of help."""

COMMANDS: Registry[click.Command] = Registry(
    "command", {name: entry for section in SECTIONS.values() for name, entry in section.items()}
)

F = TypeVar("F", bound=Callable[..., Any])

OTHER = "Other"
"""The heading of options that name no group."""


class Option(click.Option):
    """An option that stands under a heading of the help."""

    def __init__(self, *arguments: Any, group: str = OTHER, **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.group = group


def option(*names: str, group: str = OTHER, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that adds an option under a heading, as `click.option` does."""
    return click.option(*names, cls=Option, group=group, **attributes)


class _NonEmptyPath(click.ParamType):  # type: ignore[type-arg]
    """A path that is not empty.

    An empty one, of a variable that is not set, would be the working directory.
    """

    def __init__(self, inner: click.Path):
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            DfalError: for an empty one.
        """
        if value == "" and param is not None:
            name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
            raise DfalError(f"{name} is empty: name a file or folder, or leave it out")
        return self.inner.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what completes a path."""
        return self.inner.shell_complete(ctx, param, incomplete)


class Command(click.Command):
    """A command whose options stand under headings, with examples below them.

    Args:
        examples: what each does → the command line, without `dfal`.
    """

    def __init__(
        self, *arguments: Any, examples: Sequence[tuple[str, str]] = (), **attributes: Any
    ):
        super().__init__(*arguments, **attributes)
        self.examples = examples
        for param in self.params:
            if isinstance(param.type, click.Path):
                param.type = _NonEmptyPath(param.type)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", OTHER), []).append(record)
        groups[OTHER] = groups.pop(OTHER, [])
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records, col_max=_name_columns(formatter))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, which are not wrapped: they are to be copied."""
        if not self.examples:
            return
        with formatter.section("Examples"):
            for about, line in self.examples:
                formatter.write_text(f"# {about}")
                formatter.write(f"{'':{formatter.current_indent}}dfal {line}\n")


class CommandGroup(click.Group):
    """The group of all commands, which are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None for a name that is not there."""
        if cmd_name not in COMMANDS:
            return None
        return COMMANDS[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a command line.

        Raises:
            DfalError: for a name that is not there; it offers the nearest one.
        """
        if not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections, without importing any."""
        longest = max(map(len, COMMANDS))
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (f"{name:{longest}}", f"{entry.about[0].upper()}{entry.about[1:]}.")
                        for name, entry in entries.items()
                    ],
                    col_max=_name_columns(formatter),
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, without importing any, or the options."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=COMMANDS.about(name))
            for name in COMMANDS
            if name.startswith(incomplete)
        ]


def _name_columns(formatter: click.HelpFormatter) -> int:
    """Return the columns for names of options; the text has two thirds of a narrow terminal."""
    return min(30, formatter.width // 3)


class _Context(click.Context):
    """A context whose help is no wider than the terminal, however narrow that is."""

    def make_formatter(self) -> click.HelpFormatter:
        columns = shutil.get_terminal_size().columns
        return click.HelpFormatter(width=max(min(columns, self.max_content_width or 80) - 2, 20))


Command.context_class = _Context
CommandGroup.context_class = _Context
