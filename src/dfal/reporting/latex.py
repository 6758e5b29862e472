"""Tables as LaTeX for papers: a short caption, numbers aligned by siunitx, and notes below."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from dfal.analysis.tables import Cell, Table

PACKAGES = ("booktabs", "graphicx", "siunitx", "threeparttable", "xcolor")
"""What a table needs in the preamble."""
MAX_BUDGETS = 5
"""Budgets of a table of accuracies by default: more make its type too small to read."""
COLUMN = 44
"""Characters of a table that fit into one of two columns of an article; a wider one spans both."""
HEAD = 16
"""Characters of a line of a heading."""

NUMBER = re.compile(r"([+−-]?)(\d+)(?:\.(\d+))?")
UNCERTAIN = re.compile(rf"{NUMBER.pattern}(?: ± (\d+)(?:\.(\d+))?)?")


def latex(table: Table, label: str) -> str:
    r"""Return a table as a LaTeX `table`, or as a `table*` where it is wider than a column.

    A row with numbers of the paper has them in a row of its own below. Ours is in
    \color{dfalabove} where it is above the paper's with p < 0.05, and in {dfalbelow} where it is
    below: a preamble may define both. What is still wider than the page is made smaller.

    Args:
        table: what to write.
        label: for \ref, without `tab:`.
    """
    columns = [[cells[at] for _, cells in table.rows] for at in range(len(table.head))]
    formats = [_format(column, table.compared) for column in columns]
    best = [_best(table, head, column) for head, column in zip(table.head, columns, strict=True)]
    star = "*" if _width(table) > COLUMN else ""
    title = re.sub(  # it gets a number of its own
        "^(Table|Figure) ", r"The paper's \g<0>", table.title
    )
    heads = [
        _head(head, aligned=form.startswith("S"))
        for head, form in zip(table.head, formats, strict=True)
    ]
    rows = [line for row in table.rows for line in _rows(row, formats, best)]
    return "\n".join(
        [
            f"% Needs \\usepackage{{{','.join(PACKAGES)}}}",
            f"\\begin{{table{star}}}",
            "\\providecolor{dfalabove}{HTML}{0072B2}\\providecolor{dfalbelow}{HTML}{B3261E}",
            "\\centering",
            f"\\caption{{{escaped(title)}}}",
            f"\\label{{tab:{label}}}",
            "\\smallskip",
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            "\\begin{threeparttable}",
            "\\sisetup{separate-uncertainty=true,retain-explicit-plus=true,mode=text,"
            "reset-text-series=false}",
            f"\\begin{{tabular}}{{l{''.join(formats)}}}",
            "\\toprule",
            " & ".join(["", *heads]) + r" \\",
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}",
            *_notes(table, any(best)),
            "\\end{threeparttable}}",
            f"\\end{{table{star}}}",
            "",
        ]
    )


def _width(table: Table) -> int:
    """Return about how many characters a table is wide."""
    names = [row for row, _ in table.rows]
    widths = [max(map(len, names), default=0)]
    for at, head in enumerate(table.head):
        texts = [f"{cells[at].ours} {cells[at].spread}".strip() for _, cells in table.rows]
        texts += [cells[at].paper for _, cells in table.rows] + textwrap.wrap(head, HEAD)
        widths.append(max(map(len, texts), default=0) + 2)
    return sum(widths)


def _format(column: Sequence[Cell], compared: bool) -> str:
    """Return a column's alignment: `S` for numbers, `l` for words, `r` for what is between."""
    texts = [text for cell in column for text in (_ours(cell), cell.paper) if text]
    matches = [match for text in texts if (match := UNCERTAIN.fullmatch(text))]
    if 2 * len(matches) < len(texts) or not matches:
        return "l" if not any(np.isfinite(cell.value) for cell in column) else "r"
    sign = "+" if any(match[1] for match in matches) else ""
    whole = max(len(match[2]) for match in matches)
    digits = max(len(match[3] or "") for match in matches)
    errors = [len((match[4] + (match[5] or "")).lstrip("0")) for match in matches if match[4]]
    uncertainty = f"({max(errors)})" if errors else ""
    return f"S[table-format={sign}{whole}.{digits}{uncertainty}]"


def _best(table: Table, head: str, column: Sequence[Cell]) -> str:
    """Return the text of a column's best number; empty where none is better than another."""
    values = [cell.value for cell in column if np.isfinite(cell.value)]
    if len(values) < 2 or head not in table.highest | table.lowest:
        return ""
    best = max(values) if head in table.highest else min(values)
    return next(cell.ours for cell in column if cell.value == best)


def _head(head: str, *, aligned: bool) -> str:
    """Return a heading, in lines that are no longer than the numbers need."""
    lines = [escaped(line) for line in textwrap.wrap(head.replace(" %", "\xa0%"), HEAD)]
    text = r"\\".join(lines)
    if len(lines) > 1:
        text = f"\\shortstack[r]{{{text}}}"
    return f"{{{text}}}" if aligned else text


def _rows(
    row: tuple[str, Sequence[Cell]], formats: Sequence[str], best: Sequence[str]
) -> list[str]:
    """Return the line of a row, and that of the paper's numbers below it where there are some."""
    name, cells = row
    ours = [
        _cell(cell, form, bold=bool(text) and cell.ours == text)
        for cell, form, text in zip(cells, formats, best, strict=True)
    ]
    lines = [" & ".join([escaped(name), *ours]) + r" \\"]
    if any(cell.paper for cell in cells):
        theirs = [_text(cell.paper, form) for cell, form in zip(cells, formats, strict=True)]
        lines.append(" & ".join(["\\quad\\textit{paper}", *theirs]) + r" \\")
    return lines


def _ours(cell: Cell) -> str:
    return f"{cell.ours} {cell.spread}".strip()


def _cell(cell: Cell, form: str, *, bold: bool) -> str:
    """Return our number, bold where it is the best, coloured where it differs from the paper's."""
    text = _text(_ours(cell), form)
    if cell.differs:
        text = f"\\color{{{'dfalabove' if cell.differs > 0 else 'dfalbelow'}}} {text}"
    return f"\\bfseries {text}" if bold else text


def _text(text: str, form: str) -> str:
    """Return the text of a cell: as siunitx reads it where it is a number, else in braces."""
    if form.startswith("S") and UNCERTAIN.fullmatch(text):
        return text.replace("−", "-").replace("±", "\\pm")
    return f"{{{escaped(text)}}}" if text and form.startswith("S") else escaped(text)


def _notes(table: Table, bold: bool) -> list[str]:
    """Return what the numbers are, below the table."""
    notes = [note for note in table.caption.splitlines() if note]
    if bold:
        notes.append("Bold: the best of its column.")
    if not notes:
        return []
    items = [f"\\item {escaped(note)}" for note in notes]
    return ["\\begin{tablenotes}[flushleft]\\footnotesize", *items, "\\end{tablenotes}"]


ESCAPES = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "≥": r"$\geq$",
    ">": r"$>$",
    "<": r"$<$",
    "→": r"$\to$",
    "\xa0": "~",
}
ESCAPES |= {"|": r"\textbar{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPES |= {character: "\\" + character for character in "&%$#_{}"}


def escaped(text: str) -> str:
    """Return text as LaTeX shows it."""
    return "".join(ESCAPES.get(character, character) for character in text)
