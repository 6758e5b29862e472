"""Ours beside the paper's: tables and verdicts as values, for the terminal, the page, LaTeX and CSV
alike."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from dfal.stats.significance import half_width, holm, paired_p

Answer = Literal["holds", "does not hold", "undecided"]

STUDENT = "95 % t"
BOOTSTRAP = "95 % bootstrap"
DEVIATION = "standard deviation"
RANGE = "smallest to largest"


@dataclass(frozen=True)
class Verdict:
    """What stored trials say of a claim of the paper.

    Attributes:
        claim: in a sentence.
        answer: whether it holds at 5 %; undecided where too little was run, or an interval holds
        both.
        numbers: from which that follows.
        setting: the data and the network that it is about.
    """

    claim: str
    answer: Answer
    numbers: str
    setting: str = ""


@dataclass(frozen=True)
class Cell:
    """A number of ours, and the paper's where it has one.

    Attributes:
        ours: as text; empty where nothing was measured.
        spread: its interval as text.
        paper: the paper's number as text.
        p: of the test that ours is the paper's number; NaN where there is none.
        above: whether ours is larger.
        value, low, high: ours and its interval as numbers, inf where a text has ">"; NaN where
        there is none.
        interval: what low and high are.
    """

    ours: str = ""
    spread: str = ""
    paper: str = ""
    p: float = float("nan")
    above: bool = False
    value: float = field(default=float("nan"), compare=False)
    low: float = field(default=float("nan"), compare=False)
    high: float = field(default=float("nan"), compare=False)
    interval: str = field(default="", compare=False)

    @property
    def differs(self) -> int:
        """1 or −1 where ours is above or below the paper's number with p < 0.05, 0 where that
        cannot be told."""
        return (1 if self.above else -1) if self.p < 0.05 else 0


@dataclass(frozen=True)
class Table:
    """Rows of cells. p-values in it were corrected for all of its cells (Holm)."""

    name: str
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = field(default=())

    @property
    def compared(self) -> bool:
        """Whether any cell has a number of the paper's."""
        return any(cell.paper for _, cells in self.rows for cell in cells)


def table(
    name: str,
    title: str,
    caption: str,
    head: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell]]],
) -> Table:
    """A table whose p-values are corrected for all of its cells; rows and columns without anything
    are left out."""
    full = [
        any(cells[place].ours or cells[place].paper for _, cells in rows)
        for place in range(len(head))
    ]
    head = list(itertools.compress(head, full))
    kept = [
        (row, list(itertools.compress(cells, full)))
        for row, cells in rows
        if any(cell.ours or cell.paper for cell in cells)
    ]
    corrected = iter(holm([cell.p for _, cells in kept for cell in cells]))
    done = tuple(
        (row, tuple(_with_p(cell, next(corrected)) for cell in cells)) for row, cells in kept
    )
    return Table(name, title, caption, tuple(head), done)


def _with_p(cell: Cell, p: float) -> Cell:
    return cell if np.isnan(p) else replace(cell, p=p)


def accuracy(
    values: Float64[np.ndarray, "s"] | None, paper: float | None = None, *, tested: bool = True
) -> Cell:
    """Accuracies of several seeds, as a mean in % with half of its 95 % t interval, beside a number
    of the paper's, from which it may be tested to differ."""
    published = "" if paper is None else f"{100 * paper:.2f}"
    if values is None:
        return Cell(paper=published)
    p = paired_p(values - paper) if tested and paper is not None else float("nan")
    return replace(
        percent(values),
        paper=published,
        p=p,
        above=paper is not None and bool(values.mean() > paper),
    )


def percent(values: Float64[np.ndarray, "s"], digits: int = 2, *, sign: bool = False) -> Cell:
    """The mean of fractions in % with half of its 95 % t interval."""
    middle = 100 * float(values.mean())
    text = signed(middle, digits) if sign else f"{middle:.{digits}f}"
    if len(values) < 2:
        return Cell(text, value=middle)
    half = 100 * half_width(values)
    return Cell(
        text,
        f"± {half:.{digits}f}",
        value=middle,
        low=middle - half,
        high=middle + half,
        interval=STUDENT,
    )


def number(value: float, text: str = "") -> Cell:
    """A number without an interval; a whole one unless it has a text."""
    return Cell(text or f"{value:.0f}", value=value)


def p_value(p: float) -> Cell:
    """A p-value that is a number of ours."""
    return Cell() if np.isnan(p) else number(p, "< 0.001" if p < 0.001 else f"{p:.3f}")


def points(values: Float64[np.ndarray, "s"]) -> str:
    """A difference in points of accuracy with its 95 % t interval."""
    if len(values) < 2:
        return signed(100 * float(values.mean())) + " (one seed)"
    middle, half = 100 * float(values.mean()), 100 * half_width(values)
    return f"{signed(middle)} [{signed(middle - half)}, {signed(middle + half)}]"


def signed(value: float, digits: int = 2) -> str:
    """With its sign, a minus as long as the plus; a zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def positive(differences: Sequence[Float64[np.ndarray, "s"]]) -> Answer:
    """Whether all of these differences, each over paired seeds, are above 0: t-tests with Holm's
    correction. One that is surely below 0 is enough for the claim not to hold."""
    p = holm([paired_p(one) for one in differences])
    answers = [_answer(float(one.mean()), value) for one, value in zip(differences, p, strict=True)]
    return all_of(answers)


def _answer(mean: float, p: float) -> Answer:
    if not p < 0.05:
        return "undecided"
    return "holds" if mean > 0 else "does not hold"


def all_of(answers: Sequence[Answer]) -> Answer:
    """Whether a claim that consists of these holds."""
    if not answers:
        return "undecided"
    return (
        "does not hold"
        if "does not hold" in answers
        else "undecided"
        if "undecided" in answers
        else "holds"
    )
