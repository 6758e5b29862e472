"""Tables and verdicts as values, with the paper's numbers next to ours where it has them.

The terminal, the page, LaTeX and CSV are all made from them.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from dfal.analysis.learning_curves import Curve
from dfal.stats.significance import (
    annotations_to_target,
    half_width,
    holm,
    paired_p,
    seeds_needed,
)

Answer = Literal["reproduced", "not reproduced", "undecided"]

CI = "95 % CI"
"""A confidence interval, in captions and headings."""

STUDENT = "95 % t"
BOOTSTRAP = "95 % bootstrap"
DEVIATION = "standard deviation"
RANGE = "smallest to largest"
"""What the ends of a cell's interval are, in CSV files."""


@dataclass(frozen=True)
class Verdict:
    """Whether stored trials reproduce a claim of the paper.

    Attributes:
        claim: a sentence.
        answer: the result of tests at 5 %; undecided where too little was run, or a difference is
            not significant.
        numbers: what the answer follows from.
        setting: the data set and the network of the claim.
    """

    claim: str
    answer: Answer
    numbers: str
    setting: str = ""


@dataclass(frozen=True)
class Cell:
    """A number of ours, and the paper's where it has one.

    Attributes:
        ours: our number as text; empty where nothing was measured.
        spread: its interval as text.
        paper: the paper's number as text.
        p: of the test that ours equals the paper's number; NaN where there is none.
        above: whether ours is larger than the paper's.
        value, low, high: our number and the ends of its interval, inf where a text has ">"; NaN
            where there is none.
        interval: what low and high are, such as `STUDENT`.
    """

    ours: str = ""
    spread: str = ""
    paper: str = ""
    p: float = field(default=float("nan"), compare=False)  # NaN equals no NaN
    above: bool = False
    value: float = field(default=float("nan"), compare=False)
    low: float = field(default=float("nan"), compare=False)
    high: float = field(default=float("nan"), compare=False)
    interval: str = field(default="", compare=False)

    @property
    def differs(self) -> int:
        """Return 1 or −1 where ours is above or below the paper's with p < 0.05, otherwise 0."""
        return (1 if self.above else -1) if self.p < 0.05 else 0


@dataclass(frozen=True)
class Table:
    """Named rows of cells, whose p-values are corrected for all cells of the table (Holm).

    Attributes:
        name: of its files.
        title: what the table is about.
        caption: what its numbers are.
        head: a heading for each column.
        rows: the name of each row, and its cells.
        highest, lowest: headings of columns whose highest, or lowest, number is the best.
    """

    name: str
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = field(default=())
    highest: frozenset[str] = frozenset()
    lowest: frozenset[str] = frozenset()

    @property
    def compared(self) -> bool:
        """Return whether any cell has a number of the paper."""
        return any(cell.paper for _, cells in self.rows for cell in cells)


def table(
    name: str,
    title: str,
    caption: str,
    head: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell]]],
    *,
    highest: Collection[str] = (),
    lowest: Collection[str] = (),
) -> Table:
    """Make a table without empty rows and columns, with Holm's correction for all of its cells."""
    filled = [
        any(cells[column].ours or cells[column].paper for _, cells in rows)
        for column in range(len(head))
    ]
    filled_rows = [
        (row, list(itertools.compress(cells, filled)))
        for row, cells in rows
        if any(cell.ours or cell.paper for cell in cells)
    ]
    corrected = iter(holm([cell.p for _, cells in filled_rows for cell in cells]))
    return Table(
        name,
        title,
        caption,
        tuple(itertools.compress(head, filled)),
        tuple(
            (row, tuple(_with_p(cell, next(corrected)) for cell in cells))
            for row, cells in filled_rows
        ),
        frozenset(highest),
        frozenset(lowest),
    )


def _with_p(cell: Cell, p: float) -> Cell:
    return cell if np.isnan(p) else replace(cell, p=p)


def accuracy(
    values: Float64[np.ndarray, "s"] | None, paper: float | None = None, *, tested: bool = True
) -> Cell:
    """Make the cell of a mean accuracy in % and the paper's number.

    Args:
        values: accuracies of s seeds as fractions; None where nothing was measured.
        paper: the paper's accuracy as a fraction.
        tested: whether ours is tested against the paper's, as if that were exact.
    """
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
    """Make the cell of a mean of fractions in % ± half of its 95 % CI."""
    mean = 100 * float(values.mean())
    text = signed(mean, digits) if sign else f"{mean:.{digits}f}"
    if len(values) < 2:
        return Cell(text, value=mean)
    return plus_minus(text, mean, 100 * half_width(values), STUDENT, digits)


def plus_minus(text: str, value: float, half: float, interval: str, digits: int) -> Cell:
    """Make the cell of a number ± half of a symmetric interval."""
    low, high = value - half, value + half
    return Cell(text, f"± {half:.{digits}f}", value=value, low=low, high=high, interval=interval)


def number(value: float, text: str = "") -> Cell:
    """Make the cell of a number without an interval, by default as a whole number."""
    return Cell(text or f"{value:.0f}", value=value)


def p_value(p: float) -> Cell:
    """Make the cell of a p-value; empty for NaN."""
    return Cell() if np.isnan(p) else number(p, format_p(p))


def format_p(p: float) -> str:
    """Write a p-value with three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_seconds(seconds: float) -> str:
    """Write seconds with three digits, or without a fraction from 100 on."""
    digits = 0 if seconds >= 100 else 1 if seconds >= 10 else 2
    return f"{seconds:,.{digits}f}"


def needed_cell(curve: Curve, target: float, paper: str = "") -> Cell:
    """Make the cell of the annotations to a target accuracy, with a 95 % bootstrap interval.

    Args:
        curve: whose last budget censors the number: "> 1000" where it does not reach the target.
        target: an accuracy as a fraction.
        paper: the paper's number as text.
    """
    needed = annotations_to_target(curve.annotations, curve.accuracy, target)
    last = int(curve.annotations[-1])

    def text(value: float) -> str:
        return f"> {last}" if np.isinf(value) else f"{value:.0f}"

    cell = Cell(text(needed.annotations), "", paper, value=needed.annotations)
    if not np.isfinite(needed.low):  # one seed, or not even the best draw of seeds reaches it
        return cell
    spread = f"[{text(needed.low)}, {text(needed.high)}]"
    return replace(cell, spread=spread, low=needed.low, high=needed.high, interval=BOOTSTRAP)


def points(values: Float64[np.ndarray, "s"]) -> str:
    """Write a mean difference of fractions in points of accuracy, with its 95 % CI."""
    if len(values) < 2:
        return signed(100 * float(values.mean())) + " (one seed)"
    mean, half = 100 * float(values.mean()), 100 * half_width(values)
    return f"{signed(mean)} [{signed(mean - half)}, {signed(mean + half)}]"


def signed(value: float, digits: int = 2) -> str:
    """Write a number with its sign (+ or −); zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def positive(differences: Sequence[Float64[np.ndarray, "s"]]) -> Answer:
    """Test whether all of these differences are above 0.

    Args:
        differences: several, each over its paired seeds.

    Returns:
        The answer of paired t-tests at 5 % with Holm's correction for all of them.
    """
    p_values = holm([paired_p(values) for values in differences])
    return all_of(
        [_answer(float(values.mean()), p) for values, p in zip(differences, p_values, strict=True)]
    )


MAX_SEEDS = 1000
"""A larger number of seeds is no advice."""


def to_decide(differences: Sequence[Float64[np.ndarray, "s"]]) -> str:
    """Return how many seeds would decide a claim about these differences, as the end of a sentence.

    Args:
        differences: several, each over its paired seeds, as `positive` tests them.

    Returns:
        Nothing where every difference is significant, has one seed, or would be significant without
        the correction.
    """
    p_values = holm([paired_p(values) for values in differences])
    needed = [
        seeds_needed(values)
        for values, p in zip(differences, p_values, strict=True)
        if not p < 0.05 and len(values) > 1 and seeds_needed(values) > len(values)
    ]
    if not needed:
        return ""
    seeds = f"more than {MAX_SEEDS:,}" if max(needed) > MAX_SEEDS else f"about {max(needed):.0f}"
    return f"; {seeds} seeds would decide it, if the differences stay as they are"


def _answer(mean: float, p: float) -> Answer:
    if not p < 0.05:
        return "undecided"
    return "reproduced" if mean > 0 else "not reproduced"


def all_of(answers: Sequence[Answer]) -> Answer:
    """Return the answer to a claim that consists of these; one part that fails is enough."""
    if not answers or ("undecided" in answers and "not reproduced" not in answers):
        return "undecided"
    return "not reproduced" if "not reproduced" in answers else "reproduced"
