"""Tables saved from spreadsheets: CSV with any of the usual separators and encodings."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfal.errors import DfalError

SEPARATORS = ",;\t|"
"""What may separate columns; the first line tells which one does."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and the encodings that they stand for."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ ,;\t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""A first line that tells Excel the separator; Excel does not show it."""
BLANK_BEFORE_QUOTE = re.compile(r'[,;\t|] +"')


class Row(dict[str, str]):
    """A row of a table: name of a column → cell.

    Attributes:
        number: as a spreadsheet counts: the names of the columns are row 1.
    """

    def __init__(self, number: int, cells: Iterable[tuple[str, str]]):
        super().__init__(cells)
        self.number = number


@dataclass(frozen=True)
class TableFile:
    """The content of a table.

    Attributes:
        columns: their names, in lower case.
        rows: those that are not empty.
    """

    columns: tuple[str, ...]
    rows: list[Row]


def read_table(
    path: Path, needed: Sequence[str], what: str, content: bytes | None = None
) -> TableFile:
    """Read a CSV file as spreadsheets write it.

    Separators are commas, semicolons, tabs or bars; the encoding is UTF-8, or UTF-16 or UTF-32 with
    a byte order mark. Empty rows and columns are left out. File names that are not UTF-8 are kept
    as they are (`surrogateescape`) in the column path.

    Args:
        path: the file.
        needed: columns that must be there, in lower case.
        what: what the file holds, for the sentences of errors: "the labels".
        content: of the file, where it has been read already.

    Raises:
        DfalError: for a file that is not there, is no such table, or has another encoding.
    """
    text = _decode(path, what, content)
    separator = None
    if line := SEPARATOR_LINE.match(text):
        separator, text = line[1], text[line.end() :]
    records = _numbered(path, text, separator, needed)
    columns: list[str] = []
    rows: list[Row] = []
    for number, record in records:
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        if not columns:
            columns = [cell.casefold().strip("\ufeff ") for cell in cells]
            _check_columns(path, columns, needed, record)
            continue
        if any(cells[len(columns) :]):
            raise DfalError(
                f"{path}, row {number} has more columns than the first line names: quote what has a"
                " separator in it"
            )
        padded = [*record, *[""] * (len(columns) - len(record))]
        rows.append(
            Row(number, ((name, cell) for name, cell in zip(columns, padded, strict=False) if name))
        )
        if any(
            "\udc80" <= letter <= "\udcff"
            for name, cell in rows[-1].items()
            if name != "path"
            for letter in cell
        ):
            raise DfalError(f"{path} is not written in UTF-8 (row {number}): save it as that")
    if not columns:
        _check_columns(path, columns, needed, [])
    return TableFile(tuple(name for name in columns if name), rows)


def _decode(path: Path, what: str, content: bytes | None) -> str:
    """Return the text of a file; a `DfalError` where it cannot be read or is no text."""
    try:
        content = path.read_bytes() if content is None else content
    except OSError as error:
        raise DfalError(
            f"{what} {path} cannot be read ({error.strerror}): name a CSV that is there"
        ) from None
    except ValueError:  # a NUL in the name
        raise DfalError(f"{what} {str(path)!r} cannot be read: name a CSV that is there") from None
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:64]:
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    encoding = encoding or "utf-8"
    try:
        text = content.decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise DfalError(f"{what} {path} are not a table of text: save it as CSV in UTF-8") from None
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise DfalError(
            f"{what} {path} are not a table of text (it has bytes of zero): save it as CSV in UTF-8"
        )
    return text


def _numbered(
    path: Path, text: str, separator: str | None, needed: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row.

    Raises:
        DfalError: for a quote that is not closed, and other rows that cannot be read.
    """
    chosen = separator or _separator(text, needed)
    blanks = BLANK_BEFORE_QUOTE.search(text) is not None
    number = 0
    try:
        for strict in (True, False):
            reader = csv.reader(
                io.StringIO(text, newline=""),
                delimiter=chosen,
                strict=strict,
                skipinitialspace=blanks,
            )
            number = 0
            try:
                records = []
                for record in reader:
                    number += 1
                    records.append((number, record))
                break
            except csv.Error as error:
                if not strict or "unexpected end" in str(error) or "field larger" in str(error):
                    raise
    except csv.Error as error:
        reason = "a quote that is not closed" if "unexpected end" in str(error) else str(error)
        raise DfalError(f"{path}, row {number + 1} has {reason}: correct that row") from None
    yield from records


def _separator(text: str, needed: Sequence[str]) -> str:
    """Return the separator with which the first line names most of the needed columns."""
    first = next((line for line in text.splitlines() if line.strip(' ,;\t|"')), "")
    named = {
        mark: sum(
            name in {cell.strip(' "').casefold() for cell in first.split(mark)} for name in needed
        )
        for mark in SEPARATORS
    }
    return max(SEPARATORS, key=lambda mark: (named[mark], first.count(mark)))


def _check_columns(
    path: Path, columns: Sequence[str], needed: Sequence[str], record: Sequence[str]
) -> None:
    names = " and ".join(needed)
    if not set(needed) <= set(columns):
        first_line = ",".join(record)[:80]
        if any("\udc80" <= letter <= "\udcff" for letter in first_line):
            raise DfalError(f"{path} is not written in UTF-8: save it as that")
        raise DfalError(
            f"{path} has no columns {names}, but {first_line!r}: write these names in its first"
            " line"
        )
    if twice := next((name for name in needed if columns.count(name) > 1), None):
        raise DfalError(f"{path} has two columns {twice}: leave one")
