"""Tables that compare the strategies of a study, for any data: what `dfal report` shows."""

from collections.abc import Sequence

from dfal.analysis.learning_curves import Comparison, Curve, Study
from dfal.analysis.tables import (
    BOOTSTRAP,
    CI,
    DEVIATION,
    STUDENT,
    Cell,
    Table,
    needed_cell,
    number,
    p_value,
    percent,
    plus_minus,
    signed,
    table,
)

AULC_MEANING = "mean accuracy over the curve, the area under it by trapezoids divided by its width"
"""What AULC is, in captions."""
AULC_HEAD = f"AULC ± {CI}"
"""The heading of the one column whose ± is not the standard deviation."""
RANDOM_HEAD = "labels to reach random sampling's final accuracy"


def tables(title: str, study: Study, budgets: Sequence[int]) -> list[Table]:
    """Make the table of accuracies at these budgets, and with several seeds that of differences."""
    several = any(comparison.seeds > 1 for comparison in study.comparisons)
    return [
        accuracies(title, study, budgets),
        *([differences(title, study)] if several else []),
    ]


def accuracies(title: str, study: Study, budgets: Sequence[int]) -> Table:
    """Make a table with the accuracy of each strategy at each budget, and its summary."""
    several = any(len(curve.trials) > 1 for curve in study.curves)
    over = f"mean ± standard deviation over {study.seeds}" if several else "one seed"
    interval = f", ± half of its {CI} (Student's t)" if several else ""
    head = [*map(str, budgets), "labelled data", AULC_HEAD if several else "AULC"]
    captions = [
        "annotations: labels given, the first ones included; labelled data: images trained on at"
        f" the end, adversarial twins included; AULC: {AULC_MEANING}{interval}.",
        *study.notes,
    ]
    if study.baseline:
        head.append(RANDOM_HEAD)
    to_targets = [f"labels to reach {100 * target:.10g} %" for target in study.targets]
    head += to_targets
    if to_targets and several:
        captions.append(f"[ ]: {BOOTSTRAP} over seeds of the labels to reach an accuracy.")
    if study.uneven:
        head.append("seeds")
    rows = []
    for curve in study.curves:
        aulc = study.aulc(curve)
        cells = [_accuracy(curve, budget) for budget in budgets]
        cells += [number(float(curve.labelled_data[-1])), Cell() if aulc is None else percent(aulc)]
        if study.baseline:
            cells.append(_labels_to_reach(curve, study.baseline))
        cells += [needed_cell(curve, target) for target in study.targets]
        if study.uneven:
            cells.append(number(len(curve.trials)))
        rows.append((curve.name + ("" if curve.finished else " (unfinished)"), cells))
    return table(
        "accuracies",
        f"Test accuracy in %, {over}: {title}",
        "\n".join(captions),
        head,
        rows,
        highest=[*map(str, budgets), AULC_HEAD if several else "AULC"],
        lowest=[RANDOM_HEAD, *to_targets],
    )


def _accuracy(curve: Curve, budget: int) -> Cell:
    accuracy = curve.at(budget)
    if accuracy is None:
        return Cell()
    mean = 100 * float(accuracy.mean())
    if len(accuracy) < 2:
        return number(mean, f"{mean:.1f}")
    deviation = 100 * float(accuracy.std(ddof=1))
    return plus_minus(f"{mean:.1f}", mean, deviation, DEVIATION, 1)


def _labels_to_reach(curve: Curve, baseline: Curve) -> Cell:
    """Make the cell of the annotations to the baseline's accuracy at its last budget."""
    if curve is baseline:
        return Cell()
    needed = curve.needed(float(baseline.mean[-1]))
    return (
        Cell(f"> {curve.annotations[-1]}", value=float("inf")) if needed is None else number(needed)
    )


def differences(title: str, study: Study) -> Table:
    """Make a table with the difference in AULC between each strategy and its references."""
    head = ["compared with", f"difference ± {CI}", "p"]
    return table(
        "differences",
        f"Difference in AULC, in points of accuracy, over paired seeds: {title}",
        f"AULC: {AULC_MEANING}; ± half of the {CI} (Student's t), not corrected; p: paired t-test"
        " after Holm's correction for all rows.",
        [*head, "seeds"] if study.uneven else head,
        [
            (comparison.curve.name, _difference_cells(comparison, with_seeds=study.uneven))
            for comparison in study.comparisons
        ],
    )


def _difference_cells(comparison: Comparison, *, with_seeds: bool) -> list[Cell]:
    gain = 100 * comparison.gain
    difference = number(gain, signed(gain))
    if comparison.seeds > 1:
        half = 100 * comparison.half_width
        difference = plus_minus(difference.ours, gain, half, STUDENT, 2)
    seeds = [number(comparison.seeds)] if with_seeds else []
    return [Cell(comparison.reference.name), difference, p_value(comparison.p), *seeds]
