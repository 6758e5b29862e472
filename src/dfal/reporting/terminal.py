"""A study as tables for the terminal."""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import Study
from dfal.analysis.tables import Cell, Verdict
from dfal.analysis.tables import Table as Beside
from dfal.data.datasets import DATASETS, Card, Dataset
from dfal.data.datasets.download import recorded

WIDE = 5
"""Strategies that have room side by side."""
MOST = 12
"""Budgets one below the other."""


def of(title: str, study: Study, at: Sequence[int], width: int) -> list[Table]:
    """The tables of a study in lines of `width` characters: strategies side by side where they are
    few and have room, otherwise one below the other, at the budgets `at` or at as many as have
    room."""
    accuracies, *differences = comparison.tables(title, study, study.budgets(MOST, at))
    beside = _Grid.of(accuracies).turned("annotations")
    if len(study.curves) <= WIDE and beside.width <= width:
        after = len(accuracies.head) - len(study.budgets(MOST, at))
        return [
            beside.table(line_before=len(beside.rows) - after),
            *(_Grid.of(one).table() for one in differences),
        ]
    for most in range(MOST, 1, -1):
        below = _Grid.of(comparison.accuracies(title, study, study.budgets(most, at)))
        if below.width <= width:
            break
    return [
        *(part.table() for part in below.parts(width)),
        *(_Grid.of(one).table() for one in differences),
    ]


@dataclass(frozen=True)
class _Grid:
    """A table as text whose width is known: no cell is broken, no heading cut."""

    title: str
    caption: str
    corner: str
    head: list[str]
    rows: list[tuple[str, list[str]]]

    @classmethod
    def of(cls, made: Beside) -> "_Grid":
        rows = [
            (name, [f"{cell.ours} {cell.spread}".strip() or "–" for cell in cells])
            for name, cells in made.rows
        ]
        return cls(made.title, made.caption, "strategy", list(made.head), rows)

    def turned(self, corner: str) -> "_Grid":
        columns = zip(*(cells for _, cells in self.rows), strict=True)
        rows = [(name, list(cells)) for name, cells in zip(self.head, columns, strict=True)]
        return dataclasses.replace(
            self, corner=corner, head=[name for name, _ in self.rows], rows=rows
        )

    @property
    def _columns(self) -> list[tuple[str, int]]:
        """The headings in lines, and the width of each column: that of its cells, where no word of
        its heading is longer."""
        columns = [
            [name for name, _ in self.rows],
            *([cells[place] for _, cells in self.rows] for place in range(len(self.head))),
        ]
        found = []
        for heading, cells in zip([self.corner, *self.head], columns, strict=True):
            room = max(map(len, [*cells, *heading.split()]))
            found.append(("\n".join(textwrap.wrap(heading, room, break_on_hyphens=False)), room))
        return found

    @property
    def width(self) -> int:
        return 1 + sum(room + 3 for _, room in self._columns)

    def parts(self, width: int) -> Iterator["_Grid"]:
        """The table in parts that have room, each with the first column; the caption below the
        last."""
        first = 1 + self._columns[0][1] + 3
        start = 0
        while start < len(self.head):
            stop, used = start, first
            for _, room in self._columns[start + 1 :]:
                if stop > start and used + room + 3 > width:
                    break
                stop, used = stop + 1, used + room + 3
            rows = [(name, cells[start:stop]) for name, cells in self.rows]
            last = stop == len(self.head)
            yield dataclasses.replace(
                self, caption=self.caption if last else "", head=self.head[start:stop], rows=rows
            )
            start = stop

    def table(self, line_before: int = 0) -> Table:
        """For the terminal, with a line before that row."""
        table = Table(title=escape(self.title), caption=escape(self.caption))
        for heading, room in self._columns:
            words = heading in {"strategy", "compared with", "compared\nwith"}
            table.add_column(
                escape(heading), justify="left" if words else "right", no_wrap=True, min_width=room
            )
        for place, (name, cells) in enumerate(self.rows, 1):
            table.add_row(escape(name), *map(escape, cells), end_section=place == line_before)
        return table


def of_card(card: Card, whole: bool = False) -> Table:
    """A data set in a few lines, or all that is known of it."""
    where = card.where()
    size = (
        "nothing to download"
        if card.download is None
        else f"{card.download / 1e6:,.1f} MB to download"
    )
    lines = {
        "images": (
            f"{card.pool:,} to ask about, {card.test:,} to test on,"
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
    table.title, table.title_justify, table.title_style = (
        f"[bold]{card.name}[/bold]: {DATASETS.about(card.name)}",
        "left",
        "",
    )
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    for heading, line in lines.items():
        table.add_row(heading, escape(line))
    table.add_row("", "")
    return table


def of_dataset(name: str, data: Dataset) -> Table:
    """What a data set without a card holds: images of each class."""
    table = Table(title=f"{escape(name)}: {'×'.join(map(str, data.images.shape))} pixels")
    for heading in ("class", "to ask about", "to test on"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for label, one in enumerate(data.classes):
        table.add_row(
            escape(one),
            f"{int((data.labels == label).sum()):,}",
            f"{int((data.test_labels == label).sum()):,}",
        )
    table.add_row("all", f"{len(data.labels):,}", f"{len(data.test_labels):,}")
    return table


def beside(found: Beside) -> Table:
    """Ours above the paper's, in colour where it differs from it."""
    title = found.title + (": ours, its interval, the paper's" if found.compared else "")
    table = Table(title=title, caption=found.caption)
    table.add_column("", no_wrap=True)
    for name in found.head:
        table.add_column(name, justify="right")
    for name, cells in found.rows:
        table.add_row(
            Text(name.replace(", ", ",\n")), *map(_cell, cells), end_section=found.compared
        )
    return table


def _cell(cell: Cell) -> Text:
    """Ours, below it its interval, and below that the paper's."""
    lines = [
        Text(cell.ours, {1: "bold cyan", -1: "bold red", 0: ""}[cell.differs]),
        Text(cell.spread, "dim"),
    ]
    lines.append(Text(cell.paper, "italic"))
    return Text("\n").join(line for line in lines if line.plain)


def verdicts(found: Sequence[Verdict]) -> list[Table]:
    """The paper's claims, and whether they hold here: a table for each setting."""
    colours = {"holds": "green", "does not hold": "red", "undecided": "yellow"}
    made = []
    for setting in dict.fromkeys(one.setting for one in found):
        table = Table(title=f"The paper's claims: {escape(setting)}", caption=reproduce.UNDECIDED)
        for heading in ("claim", "", "numbers"):
            table.add_column(heading)
        for one in found:
            if one.setting == setting:
                table.add_row(
                    Text(one.claim), Text(one.answer, colours[one.answer]), Text(one.numbers)
                )
        made.append(table)
    return made
