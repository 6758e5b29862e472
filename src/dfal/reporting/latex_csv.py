"""Tables as LaTeX and CSV, figures as PDF and SVG."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dfal.analysis.tables import Table, Verdict
from dfal.atomic import atomic_write
from dfal.errors import DfalError
from dfal.reporting.chart import Chart
from dfal.reporting.latex import latex
from dfal.spreadsheet import defused


def write(folder: Path, tables: Sequence[Table], verdicts: Sequence[Verdict]) -> list[Path]:
    """Write every table as NAME.tex and NAME.csv, and the verdicts as verdicts.csv.

    Raises:
        DfalError: if the folder cannot be written.
    """
    contents: dict[str, str] = {}
    for table in tables:
        name = _file(table)
        contents |= {f"{name}.tex": latex(table, name), f"{name}.csv": as_csv(table)}
    if verdicts:
        rows = [
            [verdict.setting, verdict.claim, verdict.answer, verdict.numbers]
            for verdict in verdicts
        ]
        contents["verdicts.csv"] = _csv([["setting", "claim", "answer", "numbers"], *rows])
    _make(folder, "tables")
    for name, text in contents.items():
        with atomic_write(folder / name, "name another folder", "the table") as partial:
            partial.write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def write_figures(folder: Path, charts: Mapping[str, Chart]) -> list[Path]:
    """Write every chart under its title, as PDF for LaTeX and as SVG.

    Raises:
        DfalError: if the folder cannot be written.
    """
    files = {
        folder / f"{_plain(title)}.{ending}": chart
        for title, chart in charts.items()
        for ending in ("pdf", "svg")
    }
    _make(folder, "figures")
    for file, chart in files.items():
        chart.write(file)
    return list(files)


def _make(folder: Path, what: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfalError(
            f"the {what} cannot be written to {folder} ({error.strerror}): name another folder"
        ) from None


def _file(table: Table) -> str:
    """Return the file name of a table: its name, and its title after the colon."""
    return _plain(f"{table.name} {table.title.partition(': ')[2]}")


def _plain(title: str) -> str:
    """Return a title in letters that are allowed in file names on every system."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


COLUMNS = ["row", "column", "ours", "low", "high", "interval", "paper", "p"]
COLUMNS += ["ours_text", "paper_text"]


def as_csv(table: Table) -> str:
    """Return a table as CSV with a row for each cell, whose columns docs/reproduce.md describes."""
    rows, names = [COLUMNS], set[str]()
    for name, cells in table.rows:
        # A strategy that is compared with two others has two rows.
        row = f"{name} − {cells[0].ours}" if name in names else name
        names.add(row)
        for head, cell in zip(table.head, cells, strict=True):
            if cell.ours or cell.paper:
                numbers = [
                    *map(_number, (cell.value, cell.low, cell.high)),
                    cell.interval,
                    _paper_number(cell.paper),
                    _number(cell.p),
                ]
                text = f"{cell.ours} {cell.spread}".strip()
                rows.append([defused(row), defused(head), *numbers, text, cell.paper])
    return _csv(rows)


def _number(value: float) -> str:
    """Return a number as text, empty for NaN."""
    return "" if np.isnan(value) else f"{value:.6g}"


def _paper_number(paper: str) -> str:
    """Return the paper's text as a number; inf where a target was not reached."""
    return "inf" if paper.startswith("≥") else paper.replace(",", "")


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
