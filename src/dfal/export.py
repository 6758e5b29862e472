"""Tables of ours beside the paper's as LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from dfal.reproduce import Cell, Table, Verdict
from dfal.types import DfalError


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
        contents["verdicts.csv"] = _csv([["claim", "answer", "numbers"], *([v.claim, v.answer, v.numbers] for v in verdicts)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DfalError(f"the tables cannot be written to {folder} ({error.strerror}): name another folder") from None
    return [folder / name for name in contents]


def _file(table: Table) -> str:
    """The table's name and what its title says behind the colon, in letters that every system takes."""
    about = table.title.partition(": ")[2]
    return re.sub(r"[^a-z0-9]+", "-", f"{table.name} {about}".lower()).strip("-")


def latex(table: Table) -> str:
    r"""A `tabular` of plain LaTeX with the packages booktabs and xcolor: ours, its interval, and the paper's in brackets.

    What is above the paper's number with p < 0.05 is in \textcolor{dfalabove}, what is below it in {dfalbelow}.
    """
    lines = [
        f"% {table.title}. Needs booktabs and xcolor, and: \\definecolor{{dfalabove}}{{HTML}}{{0072B2}}",
        "% \\definecolor{dfalbelow}{HTML}{B3261E}",
        f"\\begin{{tabular}}{{l{'r' * len(table.head)}}}",
        "\\toprule",
        " & ".join(["", *map(_escaped, table.head)]) + r" \\",
        "\\midrule",
        *(" & ".join([_escaped(name), *map(_latex_cell, cells)]) + r" \\" for name, cells in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    ours = _escaped(f"{cell.ours} {cell.spread}".strip())
    if cell.differs:
        ours = f"\\textcolor{{{'dfalabove' if cell.differs > 0 else 'dfalbelow'}}}{{{ours}}}"
    return f"{ours} ({_escaped(cell.paper)})" if cell.paper else ours


ESCAPES = {"\\": r"\textbackslash{}", "±": r"$\pm$", "−": r"$-$", "≥": r"$\geq$", ">": r"$>$", "<": r"$<$", "→": r"$\to$"}
ESCAPES |= {"|": r"\textbar{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPES |= {character: "\\" + character for character in "&%$#_{}"}


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def as_csv(table: Table) -> str:
    """One row a cell: ours, its interval, the paper's number, and p of the test that ours is the paper's number."""
    rows = [["row", "column", "ours", "interval", "paper", "p"]]
    for name, cells in table.rows:
        for head, cell in zip(table.head, cells, strict=True):
            if cell.ours or cell.paper:
                rows.append([name, head, cell.ours, cell.spread, cell.paper, f"{cell.p:.4g}" if cell.p == cell.p else ""])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
