"""CSV files for spreadsheets, in which no text from elsewhere may run as a formula."""

import csv
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that Excel, LibreOffice or Sheets may run (OWASP, "CSV injection")."""


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet may run this text as a formula."""
    return text.startswith(FORMULA)


def row_writer(file: Any) -> Callable[[Sequence[object]], None]:
    """Return a function that writes a row of CSV to a file and ends it with a line feed.

    `csv.writer` leaves a carriage return inside a cell unquoted, and nobody can read that row then.
    """
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(cells: Sequence[object]) -> None:
        (quoted if any("\r" in str(cell) for cell in cells) else plain).writerow(cells)

    return write


def formulas(paths: Iterable[str]) -> str:
    """Return a warning about file names that a spreadsheet may run; empty where there is none."""
    risky = [path for path in paths if is_formula(path)]
    if not risky:
        return ""
    subject = f"{len(risky):,} file names begin" if len(risky) > 1 else "1 file name begins"
    return (
        f"{subject} with = + - or @, as {risky[0]!r}: open the CSV as text, or rename them, before"
        " a spreadsheet runs them"
    )


def defused(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs, behind an apostrophe where it needs one.

    A text that begins with apostrophes and such a character gets one more, so that `restored`
    gives back every text.
    """
    return f"'{text}" if is_formula(text.lstrip("'")) else text


def restored(cell: str) -> str:
    """Return the text from which `defused` made a cell."""
    return cell[1:] if cell.startswith("'") and is_formula(cell.lstrip("'")) else cell
