"""Tables as LaTeX and CSV, figures as PDF and SVG."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dfal.analysis.tables import Cell, Table, Verdict
from dfal.atomic import atomic_write
from dfal.errors import DfalError
from dfal.reporting.figures import Chart
from dfal.spreadsheet import defused


def write(folder: Path, tables: Sequence[Table], verdicts: Sequence[Verdict]) -> list[Path]:
    """Write every table as NAME.tex and NAME.csv, and the verdicts as verdicts.csv.

    Raises:
        DfalError: where the folder cannot be written.
    """
    contents: dict[str, str] = {}
    for table in tables:
        name = _file(table)
        contents |= {f"{name}.tex": latex(table), f"{name}.csv": as_csv(table)}
    if verdicts:
        rows = [[one.setting, one.claim, one.answer, one.numbers] for one in verdicts]
        contents["verdicts.csv"] = _csv([["setting", "claim", "answer", "numbers"], *rows])
    _make(folder, "tables")
    for name, text in contents.items():
        with atomic_write(folder / name, "name another folder", "the table") as part:
            part.write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def write_figures(folder: Path, charts: Mapping[str, Chart]) -> list[Path]:
    """Write every chart under its title, as PDF for LaTeX and as SVG.

    Raises:
        DfalError: where the folder cannot be written.
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
    """The table's name and what its title says behind the colon."""
    return _plain(f"{table.name} {table.title.partition(': ')[2]}")


def _plain(title: str) -> str:
    """In letters that every system takes."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def latex(table: Table) -> str:
    r"""A `table` of plain LaTeX with the packages booktabs, graphicx and xcolor; its caption says
    what ± and brackets are.

    What is above the paper's number with p < 0.05 is in \textcolor{dfalabove}, what is below it in
    {dfalbelow}: other colours of these names in the preamble stay. A table wider than the line is
    made smaller.
    """
    title = re.sub(
        "^(Table|Figure) ", r"The paper's \g<0>", table.title
    )  # it gets a number of its own
    caption = f"{title}. {table.caption}" + (
        " In round brackets the paper's number." if table.compared else ""
    )
    lines = [
        "% Needs \\usepackage{booktabs,graphicx,xcolor}",
        "\\begin{table}",
        "\\providecolor{dfalabove}{HTML}{0072B2}\\providecolor{dfalbelow}{HTML}{B3261E}",
        "\\centering",
        f"\\caption{{{_escaped(caption)}}}",
        f"\\label{{tab:{_file(table)}}}",
        "\\smallskip",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(table.head)}}}",
        "\\toprule",
        " & ".join(["", *map(_escaped, table.head)]) + r" \\",
        "\\midrule",
        *(
            " & ".join([_escaped(name), *map(_latex_cell, cells)]) + r" \\"
            for name, cells in table.rows
        ),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
        "",
    ]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    ours = _escaped(f"{cell.ours} {cell.spread}".strip())
    if cell.differs:
        ours = f"\\textcolor{{{'dfalabove' if cell.differs > 0 else 'dfalbelow'}}}{{{ours}}}"
    return f"{ours} ({_escaped(cell.paper)})" if cell.paper else ours


ESCAPES = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "≥": r"$\geq$",
    ">": r"$>$",
    "<": r"$<$",
    "→": r"$\to$",
}
ESCAPES |= {"|": r"\textbar{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPES |= {character: "\\" + character for character in "&%$#_{}"}


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


COLUMNS = [
    "row",
    "column",
    "ours",
    "low",
    "high",
    "interval",
    "paper",
    "p",
    "ours_text",
    "paper_text",
]


def as_csv(table: Table) -> str:
    """One row a cell, in numbers and in words: docs/reproduce.md says what the columns are."""
    rows, names = [COLUMNS], set[str]()
    for name, cells in table.rows:
        row = (
            f"{name} − {cells[0].ours}" if name in names else name
        )  # a strategy that is compared with two others
        names.add(row)
        for head, cell in zip(table.head, cells, strict=True):
            if cell.ours or cell.paper:
                numbers = [
                    *map(_number, (cell.value, cell.low, cell.high)),
                    cell.interval,
                    _read(cell.paper),
                    _number(cell.p),
                ]
                text = f"{cell.ours} {cell.spread}".strip()
                rows.append([defused(row), defused(head), *numbers, text, cell.paper])
    return _csv(rows)


def _number(value: float) -> str:
    """Empty where there is none."""
    return "" if np.isnan(value) else f"{value:.6g}"


def _read(paper: str) -> str:
    """A number of the paper's as one; inf where it was not reached."""
    return "inf" if paper.startswith("≥") else paper.replace(",", "")


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
