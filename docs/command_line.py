"""Write docs/command-line.md: every command and option, from the code.

Usage:
python docs/command_line.py            # or: make reference
python docs/command_line.py --check    # exit status 1 where the page is not that of the code
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

import click

from dfal.cli import cli
from dfal.cli.commands import OTHER, Command

PAGE = Path(__file__).resolve().parent / "command-line.md"
HEAD = """\
# Command line

Made from the code by `make reference`; `dfal COMMAND --help` says the same. Exit codes: 0 when all
went well, 2 for wrong use or bad input, 130 when stopped.
"""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _option(option: click.Option, context: click.Context) -> str:
    with context.scope(cleanup=False):
        record = option.get_help_record(context)
    if record is None:
        return ""
    flags, text = record[0], option.help or ""
    default = option.get_help_extra(context).get("default", "")
    if match := re.search(r"\s*\[default: (.*)\]$", text):  # written by hand
        text, default = text[: match.start()], match[1]
    return f"| `{_cell(flags)}` | {_cell(text)} | {f'`{_cell(default)}`' if default else ''} |"


def _command(name: str, command: click.Command, context: click.Context) -> str:
    inner = click.Context(command, info_name=name, parent=context)
    usage = " ".join(["dfal", name, *command.collect_usage_pieces(inner)])
    paragraphs = re.split(r"\n\s*\n", textwrap.dedent(command.help or ""))
    examples = [p for p in paragraphs if p.lstrip().startswith("\b")]
    text = "\n\n".join(
        textwrap.fill(_cell(p), 100, break_long_words=False, break_on_hyphens=False)
        for p in paragraphs
        if p not in examples
    )
    lines = [f"## dfal {name}", f"```sh\n{usage}\n```", text.replace("\\|", "|")]
    for example in examples:
        shown = textwrap.dedent(example.replace("\b", "", 1).strip("\n"))
        lines.append(f"```sh\n{shown}\n```")
    if isinstance(command, Command) and command.examples:
        shown = "\n".join(f"# {about}\ndfal {line}" for about, line in command.examples)
        lines.append(f"```sh\n{shown}\n```")
    rows: dict[str, list[str]] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (row := _option(parameter, inner)):
            rows.setdefault(getattr(parameter, "group", OTHER), []).append(row)
    for group, options in rows.items():
        table = "\n".join(options)
        lines.append(f"| {group} | what it does | default |\n|---|---|---|\n{table}")
    return "\n\n".join(lines)


def page() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="dfal", max_content_width=1000)
    commands = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    sections = [
        _command(name, command, context)
        for name, command in commands
        if command is not None and not command.hidden
    ]
    return "\n\n".join([HEAD.rstrip(), *sections]) + "\n"


def main() -> None:
    """Write the page, or say whether it is that of the code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where it is stale")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif page() != PAGE.read_text():
        sys.exit("docs/command-line.md is not that of the code: make reference")


if __name__ == "__main__":
    main()
