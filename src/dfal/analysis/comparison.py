"""Strategies compared, whatever the paper says of them: what `dfal report` shows of any study."""

from collections.abc import Sequence

from dfal.analysis.learning_curves import Comparison, Curve, Study
from dfal.analysis.tables import (
    DEVIATION,
    STUDENT,
    Cell,
    Table,
    number,
    p_value,
    percent,
    signed,
    table,
)


def tables(title: str, study: Study, budgets: Sequence[int]) -> list[Table]:
    """Accuracies at these budgets; with several seeds, which differences between strategies are
    real."""
    made = [accuracies(title, study, budgets)]
    return (
        [*made, differences(title, study)]
        if any(one.seeds > 1 for one in study.comparisons)
        else made
    )


def accuracies(title: str, study: Study, budgets: Sequence[int]) -> Table:
    """Each strategy at each budget, and what sums it up."""
    several = any(len(curve.trials) > 1 for curve in study.curves)
    over = f"mean ± standard deviation over {study.seeds}" if several else "one seed"
    interval = f", ± half of its {STUDENT} interval" if several else ""
    head = [*map(str, budgets), "labelled data", AULC if several else "AULC"]
    captions = [
        "annotations: answers bought, the first ones included; labelled data: images trained on at"
        f" the end, twins too; AULC: {MEAN}{interval}"
        + (
            "; to match random: annotations for the last accuracy of random choice."
            if study.baseline
            else "."
        ),
        *study.notes,
    ]
    if study.baseline:
        head.append("to match random")
    if study.uneven:
        head.append("seeds")
    rows = []
    for curve in study.curves:
        area = study.area(curve)
        cells = [_accuracy(curve, budget) for budget in budgets]
        cells += [number(float(curve.labelled_data[-1])), Cell() if area is None else percent(area)]
        if study.baseline:
            cells.append(_to_match(curve, study.baseline))
        if study.uneven:
            cells.append(number(len(curve.trials)))
        rows.append((curve.name + ("" if curve.finished else " (unfinished)"), cells))
    return table(
        "accuracies", f"Test accuracy in %, {over}: {title}", "\n".join(captions), head, rows
    )


MEAN = "mean accuracy over the curve, the area under it by trapezoids divided by its width"
"""What AULC is, in captions."""
AULC = f"AULC ± {STUDENT}"
"""The one column whose ± is not the standard deviation says so."""


def _accuracy(curve: Curve, budget: int) -> Cell:
    if (found := curve.at(budget)) is None:
        return Cell()
    mean = 100 * float(found.mean())
    if len(found) < 2:
        return number(mean, f"{mean:.1f}")
    spread = 100 * float(found.std(ddof=1))
    return Cell(
        f"{mean:.1f}",
        f"± {spread:.1f}",
        value=mean,
        low=mean - spread,
        high=mean + spread,
        interval=DEVIATION,
    )


def _to_match(curve: Curve, baseline: Curve) -> Cell:
    if curve is baseline:
        return Cell()
    needed = curve.needed(float(baseline.mean[-1]))
    return (
        Cell(f"> {curve.annotations[-1]}", value=float("inf")) if needed is None else number(needed)
    )


def differences(title: str, study: Study) -> Table:
    """Each strategy beside its references."""
    uneven = ["seeds"] if study.uneven else []
    return table(
        "differences",
        f"Difference in AULC, in points of accuracy, over paired seeds: {title}",
        f"AULC: {MEAN}; ± half of the {STUDENT} interval, not corrected; p: paired t-test, Holm's"
        " correction for all rows",
        ["compared with", f"difference ± {STUDENT}", "p", *uneven],
        [(one.curve.name, _cells(one)[: 3 + len(uneven)]) for one in study.comparisons],
    )


def _cells(one: Comparison) -> list[Cell]:
    middle, half = 100 * one.gain, 100 * one.half_width
    found = number(middle, signed(middle))
    if one.seeds > 1:
        ends = {"low": middle - half, "high": middle + half, "interval": STUDENT}
        found = Cell(found.ours, f"± {half:.2f}", value=middle, **ends)  # type: ignore[arg-type]
    return [Cell(one.reference.name), found, p_value(one.p), number(one.seeds)]
