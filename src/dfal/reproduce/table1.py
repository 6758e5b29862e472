"""Table 1: accuracies of seven strategies at 100, 500, 800 and 1000 annotations, and of all labels.

The claim: at 1000 annotations DFAL leads (or shares the lead with CORE-SET). Figure 2 shows the
same trials.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from dfal.analysis.comparison import AULC_MEANING
from dfal.analysis.learning_curves import Curve, Study, aulc_differences
from dfal.analysis.rows import FULL
from dfal.analysis.tables import (
    CI,
    Cell,
    Table,
    Verdict,
    accuracy,
    format_seconds,
    needed_cell,
    number,
    p_value,
    percent,
    points,
    positive,
    table,
    to_decide,
)
from dfal.experiments.jobs import Job
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.settings import ROWS
from dfal.reproduce.stored_results import StoredResults, curve_named, pairs
from dfal.stats.significance import holm, paired_p, seeds_needed

BUDGETS = (100, 500, 800, 1000)
RIVALS = tuple(name for name in ROWS if not name.startswith("dfal"))


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Return all trials: every strategy with every seed, and then the full training set."""
    return [[*preset.trials(), *preset.full()]]


def tables(results: StoredResults) -> list[Table]:
    """Make three tables for each data set and network: accuracies, statistics and costs."""
    return [
        made_table
        for study in results.main
        for made_table in (_accuracies(results, study), _statistics(results, study), _costs(study))
    ]


def budgets(study: Study) -> list[int]:
    """Return the paper's budgets; if not all of them were measured, some of ours too."""
    longest = max(study.curves, key=lambda curve: len(curve.annotations))  # others may still run
    theirs = [budget for budget in BUDGETS if budget in longest.annotations]
    alone = dataclasses.replace(study, curves=(longest,), against=None)
    return theirs if len(theirs) == len(BUDGETS) else sorted({*alone.budgets(5), *theirs})


def _name(study: Study) -> str:
    return f"{study.settings.dataset}, {study.settings.model}"


def _accuracies(results: StoredResults, study: Study) -> Table:
    """Make the table of accuracies at the paper's budgets and of the full training set."""
    dataset = study.settings.dataset
    published, tested = paper.table1(dataset, study.settings.model), not paper.is_part(dataset)
    shown = budgets(study)

    rows: list[tuple[str, list[Cell]]] = []
    for curve in study.curves:
        paper_row = published.get(curve.name, {})
        cells = [
            accuracy(curve.at(budget), paper_row.get(str(budget)), tested=tested)
            for budget in shown
        ]
        rows.append((curve.name, [*cells, Cell()]))
    paper_full = published.get(paper.FULL, {}).get("all")
    full = accuracy(results.full_accuracy(study), paper_full, tested=tested)
    coloured = (
        "Coloured where ours differs from it: t-test against the paper's number as if it were"
        " exact, p < 0.05 after Holm's correction for the table. "
    )
    rows.append((FULL, [Cell()] * len(shown) + [full if full.ours else Cell()]))
    return table(
        "table1",
        f"Table 1: {_name(study)}",
        f"Test accuracy in %, mean over {study.seeds} ± half of its {CI} (Student's t), and"
        " the paper's number. "
        + (coloured if tested and published else "")
        + " ".join([*study.notes, paper.ODDITIES])
        + paper.caution(dataset),
        [*(str(budget) for budget in shown), "all"],
        rows,
        highest=[str(budget) for budget in shown],
    )


def _statistics(results: StoredResults, study: Study) -> Table:
    """Make the table of AULC, differences from DFAL, and labels to a target."""
    dfal, full = curve_named(study, "dfal"), results.full_accuracy(study)
    target = None if full is None else float(full.mean()) - 0.005
    differences = {
        curve.name: values
        for curve in study.curves
        if dfal and curve is not dfal and (values := aulc_differences(dfal, curve)) is not None
    }
    p_values = holm([paired_p(values) for values in differences.values()])
    p = dict(zip(differences, p_values, strict=True))
    rows = []
    for curve in study.curves:
        aulc, difference = study.aulc(curve), differences.get(curve.name)
        highest = 100 * float(curve.running_maximum.mean[-1])
        rows.append(
            (
                curve.name,
                [
                    Cell() if aulc is None else percent(aulc),
                    Cell() if difference is None else percent(difference, sign=True),
                    p_value(p[curve.name]) if curve.name in p else Cell(),
                    Cell() if difference is None else _seeds_to_detect(difference),
                    Cell() if target is None else needed_cell(curve, target),
                    number(highest, f"{highest:.2f}"),
                ],
            )
        )
    to = "" if target is None else f" ({100 * target:.2f} %)"
    return table(
        "statistics",
        f"Statistics beyond the paper: {_name(study)}",
        f"AULC: {AULC_MEANING}, in %, ± half of its {CI} (Student's t). DFAL − this: the difference"
        f" in AULC over paired seeds, ± half of its {CI} (Student's t); p: paired t-test after"
        " Holm's correction. seeds to detect it: how many are needed to detect that difference at"
        " 5 % with a power of 80 %. labels to the target: annotations to the accuracy of the full"
        f" training set − 0.5{to}, with a {CI} by bootstrap over seeds; > where it was not reached."
        " running maximum: at the last budget, as the paper plots it. " + " ".join(study.notes),
        [
            "AULC",
            "DFAL − this",
            "p",
            "seeds to detect it",
            "labels to the target",
            "running maximum",
        ],
        rows,
        highest=["AULC", "running maximum"],
        lowest=["labels to the target"],
    )


def _costs(study: Study) -> Table:
    """Make the table of the seconds that each trial took, and of their sum."""
    seeds = sorted({trial.seed for curve in study.curves for trial in curve.trials})
    longest = max(float(curve.seconds.sum()) for curve in study.curves)
    unit, length = next(
        (unit, length) for unit, length in UNITS.items() if longest >= 2 * length or length == 1
    )
    rows = []
    for curve in study.curves:
        by_seed = dict(zip(curve.seeds, curve.seconds.tolist(), strict=True))
        cells = [
            number(by_seed[seed], format_seconds(by_seed[seed])) if seed in by_seed else Cell()
            for seed in seeds
        ]
        total = float(curve.seconds.sum()) / length
        rows.append((curve.name, [*cells, number(total, format_seconds(total))]))
    return table(
        "costs",
        f"Seconds of each trial: {_name(study)}",
        "Seconds of one thread for training and selection, without evaluation on the test set;"
        f" {unit} in all.",
        [*(f"seed {seed}" for seed in seeds), f"{unit} in all"],
        rows,
    )


UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}
"""Seconds of each unit of time; a table takes the first unit of which there are two."""


def _seeds_to_detect(differences: Float64[np.ndarray, "s"]) -> Cell:
    if len(differences) < 2:
        return Cell()
    seeds = seeds_needed(differences)
    return number(seeds, "> 100,000" if np.isinf(seeds) else "")


def verdicts(results: StoredResults) -> list[Verdict]:
    """Judge for each study whether DFAL leads, and whether its adversarial twins help."""
    return [
        verdict
        for study in results.main
        if (dfal := curve_named(study, "dfal"))
        for verdict in (lead(study, dfal), twins(study, dfal))
    ]


def lead(study: Study, dfal: Curve) -> Verdict:
    """Judge whether DFAL is above every strategy of the paper at the last budget."""
    budget = int(dfal.annotations[-1])
    rivals = {
        curve.name: values
        for curve in study.curves
        if curve.name in RIVALS and (values := pairs(dfal, curve, budget)) is not None
    }
    return Verdict(
        f"DFAL leads at {budget} annotations",
        positive(list(rivals.values())) if rivals else "undecided",
        (
            "DFAL − "
            + "; − ".join(f"{name} {points(values)}" for name, values in rivals.items())
            + to_decide(list(rivals.values()))
            if rivals
            else "no other strategy was run"
        ),
        _name(study),
    )


def twins(study: Study, dfal: Curve) -> Verdict:
    """Judge whether DFAL has a higher AULC than DFAL without adversarial twins."""
    return higher_aulc(study, dfal, "dfal-no-twins", "Adversarial twins help")


def higher_aulc(study: Study, dfal: Curve, rival: str, claim: str) -> Verdict:
    """Judge whether DFAL has a higher AULC than another strategy, over paired seeds."""
    other = curve_named(study, rival)
    values = aulc_differences(dfal, other) if other else None
    return Verdict(
        claim,
        "undecided" if values is None else positive([values]),
        (
            f"{rival} was not run"
            if values is None
            else f"difference in AULC {points(values)}{to_decide([values])}"
        ),
        _name(study),
    )
