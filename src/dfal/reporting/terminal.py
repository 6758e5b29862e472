"""Tables for the terminal: studies, data sets, and our numbers next to the paper's."""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import Study
from dfal.analysis.tables import Answer, Cell, Verdict
from dfal.analysis.tables import Table as ValueTable
from dfal.data.datasets import DATASETS, Card, Dataset
from dfal.data.datasets.download import recorded

MAX_SIDE_BY_SIDE = 5
"""Strategies in columns, at most; more are shown in rows."""
MAX_BUDGETS = 12
"""Budgets of a table, at most."""
NAME_WIDTH = 24
"""Characters of a row's name before it is wrapped."""


def study_tables(title: str, study: Study, at: Sequence[int], width: int) -> list[Table]:
    """Make the tables of a study.

    Strategies are columns where they are few and fit, and otherwise rows.

    Args:
        title: of the study.
        study: the study.
        at: the budgets to show; by default as many as fit, evenly spread.
        width: characters of a line.
    """
    budgets = study.budgets(MAX_BUDGETS, at)
    accuracies, *differences = comparison.tables(title, study, budgets)
    in_columns = _Grid.of(accuracies).turned("annotations")
    below = [_Grid.of(difference).table() for difference in differences]
    if len(study.curves) <= MAX_SIDE_BY_SIDE and _width(in_columns.table()) <= width:
        return [in_columns.table(line_before=len(budgets)), *below]
    for most in range(MAX_BUDGETS, 1, -1):
        in_rows = _Grid.of(comparison.accuracies(title, study, study.budgets(most, at)))
        if _width(in_rows.table()) <= width:
            break
    return [*(part.table() for part in in_rows.parts(width)), *below]


def _width(table: Table) -> int:
    """Return the characters of a table's lines, wherever it is printed."""
    return Console(width=10_000).measure(table).maximum


@dataclass(frozen=True)
class _Grid:
    """A table as text. No cell is broken: headings are wrapped, and if asked the rows' names."""

    title: str
    caption: str
    corner: str
    head: list[str]
    rows: list[tuple[str, list[str]]]
    wrap_names: bool = False

    @classmethod
    def of(cls, values: ValueTable) -> "_Grid":
        """Return the cells of a table as text."""
        rows = [
            (name, [f"{cell.ours} {cell.spread}".strip() or "–" for cell in cells])
            for name, cells in values.rows
        ]
        return cls(values.title, values.caption, "strategy", list(values.head), rows)

    def turned(self, corner: str) -> "_Grid":
        """Return the table with its columns as rows."""
        columns = zip(*(cells for _, cells in self.rows), strict=True)
        rows = [(name, list(cells)) for name, cells in zip(self.head, columns, strict=True)]
        head = [name for name, _ in self.rows]
        return dataclasses.replace(self, corner=corner, head=head, rows=rows, wrap_names=True)

    def parts(self, width: int) -> Iterator["_Grid"]:
        """Yield parts that fit, each with the rows' names; the last one has the caption."""
        start = 0
        while start < len(self.head):
            stop = start + 1
            while stop < len(self.head) and _width(self._columns(start, stop + 1).table()) <= width:
                stop += 1
            yield self._columns(start, stop)
            start = stop

    def _columns(self, start: int, stop: int) -> "_Grid":
        return dataclasses.replace(
            self,
            caption=self.caption if stop == len(self.head) else "",
            head=self.head[start:stop],
            rows=[(name, cells[start:stop]) for name, cells in self.rows],
        )

    def table(self, line_before: int = 0) -> Table:
        """Return the table for the terminal, with a line after that many rows."""
        names = [name for name, _ in self.rows]
        columns = [
            [word for name in names for word in _wrapped(name)] if self.wrap_names else names,
            *([cells[column] for _, cells in self.rows] for column in range(len(self.head))),
        ]
        table = Table(title=escape(self.title), caption=escape(self.caption))
        for heading, cells in zip([self.corner, *self.head], columns, strict=True):
            words = heading in {"strategy", "compared with"}
            width = max(map(cell_len, [*cells, *heading.split()]))
            table.add_column(escape(heading), justify="left" if words else "right", width=width)
        for number, (name, cells) in enumerate(self.rows, 1):
            table.add_row(escape(name), *map(escape, cells), end_section=number == line_before)
        return table


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, NAME_WIDTH, break_long_words=False, break_on_hyphens=False)


def card_table(card: Card, whole: bool = False) -> Table:
    """Make the description of a data set in a few lines, or with `whole` of all that is known."""
    where = card.where()
    size = (
        "nothing to download"
        if card.download is None
        else f"{card.download / 1e6:,.1f} MB to download"
    )
    lines = {
        "images": (
            f"{card.pool:,} in the pool, {card.test:,} in the test set,"
            f" {'×'.join(map(str, card.image))} pixels; {size}"
        ),
        "here": str(where or "no") + (f": {card.get}" if where is None and card.get else ""),
        "from": f"{card.origin}; licence: {card.licence}",
    }
    if whole:
        sums = card.sums or {
            file: f"SHA-256 {sha256}, recorded at first use"
            for file, sha256 in recorded(card.name).items()
        }
        lines |= {
            "classes": ", ".join(card.classes),
            "test set": card.split,
            "checksum": (
                "\n".join(f"{file}: {value}" for file, value in sums.items())
                or "none is published; that of the first download is recorded"
            ),
        }
        if card.download is None and not sums:
            lines.pop("checksum")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.title = f"[bold]{card.name}[/bold]: {DATASETS.about(card.name)}"
    table.title_justify, table.title_style = "left", ""
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    for heading, line in lines.items():
        table.add_row(heading, escape(line))
    table.add_row("", "")
    return table


def dataset_table(name: str, data: Dataset) -> Table:
    """Make the table of the images of each class, for a data set without a card."""
    table = Table(title=f"{escape(name)}: {'×'.join(map(str, data.images.shape))} pixels")
    for heading in ("class", "pool", "test set"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for label, name_of_class in enumerate(data.classes):
        table.add_row(
            escape(name_of_class),
            f"{int((data.labels == label).sum()):,}",
            f"{int((data.test_labels == label).sum()):,}",
        )
    table.add_row("all", f"{len(data.labels):,}", f"{len(data.test_labels):,}")
    return table


def paper_table(values: ValueTable) -> Table:
    """Make the table of our numbers above the paper's, coloured where they differ."""
    title = values.title + (": ours, its interval, the paper's" if values.compared else "")
    table = Table(title=escape(title), caption=escape(values.caption))
    table.add_column("", no_wrap=True)
    for name in values.head:
        table.add_column(escape(name), justify="right")
    for name, cells in values.rows:
        table.add_row(
            Text(name.replace(", ", ",\n")), *map(_cell, cells), end_section=values.compared
        )
    return table


def _cell(cell: Cell) -> Text:
    """Return our number, below it its interval, and below that the paper's number."""
    lines = [
        Text(cell.ours, {1: "bold cyan", -1: "bold red", 0: ""}[cell.differs]),
        Text(cell.spread, "dim"),
        Text(cell.paper, "italic"),
    ]
    return Text("\n").join(line for line in lines if line.plain)


ANSWER_COLOURS: dict[Answer, str] = {
    "reproduced": "green",
    "not reproduced": "red",
    "undecided": "yellow",
}


def verdict_tables(verdicts: Sequence[Verdict]) -> list[Table]:
    """Make a table of the paper's claims and our answers for each setting."""
    tables = []
    for setting in dict.fromkeys(verdict.setting for verdict in verdicts):
        table = Table(title=f"The paper's claims: {escape(setting)}", caption=reproduce.UNDECIDED)
        for heading in ("claim", "answer", "numbers"):
            table.add_column(heading)
        for verdict in verdicts:
            if verdict.setting == setting:
                answer = Text(verdict.answer, ANSWER_COLOURS[verdict.answer])
                table.add_row(Text(verdict.claim), answer, Text(verdict.numbers))
        tables.append(table)
    return tables
