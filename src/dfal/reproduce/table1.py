"""Table 1: test accuracy of seven strategies at 100, 500, 800 and 1000 annotations, and of the full
training set.

The claim: at 1000 annotations DFAL leads (or shares the lead with CORE-SET). Figure 2 shows the
same trials.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dfal.analysis.comparison import MEAN
from dfal.analysis.learning_curves import Curve, Study, area_pairs
from dfal.analysis.studies import FULL
from dfal.analysis.tables import (
    BOOTSTRAP,
    Cell,
    Table,
    Verdict,
    accuracy,
    number,
    p_value,
    percent,
    points,
    positive,
    table,
)
from dfal.experiments.runner import Job
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.settings import ROWS
from dfal.reproduce.stored_results import StoredResults, curve, pairs
from dfal.stats.significance import annotations_to_target, holm, paired_p, seeds_needed

BUDGETS = (100, 500, 800, 1000)
RIVALS = tuple(name for name in ROWS if not name.startswith("dfal"))


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Every strategy with every seed, and then the network that knows all labels."""
    return [[*preset.trials(), *preset.full()]]


def tables(shelf: StoredResults) -> list[Table]:
    """For each data set and network: accuracies beside the paper's, and what the paper does not
    say."""
    return [
        made
        for study in shelf.main
        for made in (_accuracies(shelf, study), _statistics(shelf, study), _costs(study))
    ]


def budgets(study: Study) -> list[int]:
    """The paper's budgets, or where not all of them were measured some of ours."""
    longest = max(
        study.curves, key=lambda one: len(one.annotations)
    )  # the others may still be on their way
    theirs = [budget for budget in BUDGETS if budget in longest.annotations]
    alone = dataclasses.replace(study, curves=(longest,), against=None)
    return theirs if len(theirs) == len(BUDGETS) else sorted({*alone.budgets(5), *theirs})


def _name(study: Study) -> str:
    return f"{study.settings.dataset}, {study.settings.model}"


def _accuracies(shelf: StoredResults, study: Study) -> Table:
    dataset = study.settings.dataset
    published, tested = paper.table1(dataset, study.settings.model), not paper.is_part(dataset)
    shown = budgets(study)

    def beside(name: str, budget: int) -> float | None:
        return published.get(name, {}).get(str(budget))

    rows: list[tuple[str, list[Cell]]] = [
        (
            one.name,
            [accuracy(one.at(budget), beside(one.name, budget), tested=tested) for budget in shown]
            + [Cell()],
        )
        for one in study.curves
    ]
    everything = published.get(paper.FULL, {}).get("all")
    full = accuracy(shelf.full_accuracy(study), everything, tested=tested)
    coloured = (
        "Coloured where ours differs from it: t-test against the paper's number as if it were"
        " exact, p < 0.05 after Holm's correction for the table. "
    )
    rows.append((FULL, [Cell()] * len(shown) + [full if full.ours else Cell()]))
    return table(
        "table1",
        f"Table 1: {_name(study)}",
        f"Test accuracy in %, mean over {study.seeds} ± half of its 95 % t interval, and the"
        " paper's number. "
        + (coloured if tested and published else "")
        + " ".join([*study.notes, paper.ODDITIES])
        + paper.caution(dataset),
        [*(str(budget) for budget in shown), "all"],
        rows,
    )


def _statistics(shelf: StoredResults, study: Study) -> Table:
    """Areas, differences from DFAL over paired seeds, annotations for a target, seeds that would be
    needed."""
    dfal, full = curve(study, "dfal"), shelf.full_accuracy(study)
    target = None if full is None else float(full.mean()) - 0.005
    differences = {
        one.name: found
        for one in study.curves
        if dfal and one is not dfal and (found := area_pairs(dfal, one)) is not None
    }
    p = dict(zip(differences, holm([paired_p(one) for one in differences.values()]), strict=True))
    rows = []
    for one in study.curves:
        area, found = study.area(one), differences.get(one.name)
        highest = 100 * float(one.running_maximum.mean[-1])
        rows.append(
            (
                one.name,
                [
                    Cell() if area is None else percent(area),
                    Cell() if found is None else percent(found, sign=True),
                    p_value(p[one.name]) if one.name in p else Cell(),
                    Cell() if found is None or len(found) < 2 else _count(seeds_needed(found)),
                    Cell() if target is None else needed_cell(one, target),
                    number(highest, f"{highest:.2f}"),
                ],
            )
        )
    to = "" if target is None else f" ({100 * target:.2f} %)"
    return table(
        "statistics",
        f"What the paper does not say: {_name(study)}",
        f"AULC: {MEAN}, in %, ± half of its 95 % t interval. DFAL − this: the difference in AULC"
        " over paired seeds, ± half of its 95 % t interval; p: paired t-test with Holm's"
        " correction. seeds: how many would be needed to see that difference at 5 % with a chance"
        f" of 80 %. to the target: annotations for the accuracy of the full training set − 0.5{to},"
        " with a 95 % bootstrap interval over seeds; > where it was not reached. running maximum:"
        " at the last budget, as the paper plots it. " + " ".join(study.notes),
        ["AULC", "DFAL − this", "p", "seeds", "to the target", "running maximum"],
        rows,
    )


def _costs(study: Study) -> Table:
    seeds = sorted({trial.seed for one in study.curves for trial in one.trials})
    longest = max(float(one.seconds.sum()) for one in study.curves)
    unit, length = next(
        (unit, length) for unit, length in UNITS.items() if longest >= 2 * length or length == 1
    )
    rows = []
    for one in study.curves:
        by_seed = dict(zip(one.seeds, one.seconds.tolist(), strict=True))
        cells = [
            number(by_seed[seed], seconds(by_seed[seed])) if seed in by_seed else Cell()
            for seed in seeds
        ]
        total = float(one.seconds.sum()) / length
        rows.append((one.name, [*cells, number(total, seconds(total))]))
    return table(
        "costs",
        f"What each trial cost: {_name(study)}",
        "Seconds of one thread for training and choosing, without the measurement on the test set;"
        f" {unit} in all.",
        [*(f"seed {seed}" for seed in seeds), f"{unit} in all"],
        rows,
    )


UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}
"""From the longest; taken is the first of which there are two."""


def seconds(value: float) -> str:
    """Three digits where it is small: nothing that took time took 0."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def needed_cell(one: Curve, target: float, published: str = "") -> Cell:
    """Annotations for a target, censored at the last budget."""
    found, last = (
        annotations_to_target(one.annotations, one.accuracy, target),
        int(one.annotations[-1]),
    )

    def text(value: float) -> str:
        return f"> {last}" if np.isinf(value) else f"{value:.0f}"

    known = np.isfinite(
        found.low
    )  # where even the best draw of seeds does not reach it, there is nothing to add
    spread = f"[{text(found.low)}, {text(found.high)}]" if known else ""
    cell = Cell(text(found.annotations), spread, published, value=found.annotations)
    return (
        dataclasses.replace(cell, low=found.low, high=found.high, interval=BOOTSTRAP)
        if known
        else cell
    )


def _count(value: float) -> Cell:
    return number(value, "> 100,000" if np.isinf(value) else "")


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """The lead, and that twins help."""
    return [
        made
        for study in shelf.main
        if (dfal := curve(study, "dfal"))
        for made in (lead(study, dfal), twins(study, dfal))
    ]


def lead(study: Study, dfal: Curve) -> Verdict:
    """DFAL is above every strategy of the paper at the last budget (1000 in the paper)."""
    budget = int(dfal.annotations[-1])
    rivals = {
        one.name: found
        for one in study.curves
        if one.name in RIVALS and (found := pairs(dfal, one, budget)) is not None
    }
    return Verdict(
        f"DFAL leads at {budget} annotations",
        positive(list(rivals.values())) if rivals else "undecided",
        (
            "DFAL − " + "; − ".join(f"{name} {points(one)}" for name, one in rivals.items())
            if rivals
            else "no other strategy was run"
        ),
        _name(study),
    )


def twins(study: Study, dfal: Curve) -> Verdict:
    """DFAL's curve lies above the one without twins."""
    return larger_area(study, dfal, "dfal-no-twins", "Adversarial twins help")


def larger_area(study: Study, dfal: Curve, rival: str, claim: str) -> Verdict:
    """DFAL has a larger area under its curve than another, over paired seeds."""
    other = curve(study, rival)
    found = area_pairs(dfal, other) if other else None
    return Verdict(
        claim,
        "undecided" if found is None else positive([found]),
        f"{rival} was not run" if found is None else f"difference in AULC {points(found)}",
        _name(study),
    )
