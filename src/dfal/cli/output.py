"""What commands print: text, tables, JSON, and files on standard output.

A table is drawn on a terminal only. Where the output is piped each of its rows is a line, with tabs
between the cells: nothing is wrapped, padded or coloured.
"""

import contextlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfal.cli.options import STDOUT

if TYPE_CHECKING:
    from rich.table import Table


UNLIMITED = 10**6
"""Columns of an output that is no terminal."""


def width() -> int:
    """Return the columns of the terminal; where the output is piped nothing is wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED


def heading(text: str) -> str:
    """Return a text that is bold on a terminal."""
    return click.style(text, bold=True)


def print_lines(*lines: str) -> None:
    """Print lines, bold where they say so on a terminal, plain where they are piped."""
    for line in lines:
        click.echo(line)


def print_notes(*lines: str) -> None:
    """Print lines for people: on a terminal only."""
    if sys.stdout.isatty():
        print_lines(*lines)


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what is said of them: in two columns on a terminal, otherwise with a tab."""
    if not sys.stdout.isatty():
        print_lines(*(f"{name}\t{text}" for name, text in rows))
        return
    formatter = click.HelpFormatter(width=width() - 1)
    longest = max(len(name) for name, _ in rows)
    names = [(heading(name), text) for name, text in rows]
    formatter.write_dl(names, col_max=longest)
    click.echo(formatter.getvalue(), nl=False)


def print_table(table: "Table") -> None:
    """Print a table: drawn on a terminal, otherwise a line a row with tabs between cells."""
    from rich.console import Console
    from rich.text import Text

    if sys.stdout.isatty():
        Console().print(table, highlight=False)
        return

    def plain(cell: Any) -> str:
        text = Text.from_markup(cell) if isinstance(cell, str) else cell
        return " ".join(str(text).split())

    lines = [plain(table.title)] if table.title else []
    if table.show_header:
        lines.append("\t".join(plain(column.header) for column in table.columns))
    rows = zip(*(column.cells for column in table.columns), strict=True)
    lines += [line for row in rows if (line := "\t".join(map(plain, row)).rstrip("\t"))]
    if table.caption:
        lines.append(plain(table.caption))
    print_lines(*lines, "")


def print_json(value: Any) -> None:
    """Print a value as one JSON document, in ASCII; numbers that JSON has not are null."""
    click.echo(json.dumps(_jsonable(value), indent=2))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write.

    What is written for "-" goes to standard output when it is whole.
    """
    if path != STDOUT:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "output"
        yield written
        sys.stdout.flush()
        with written.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()
