"""Table 1: test accuracy of seven strategies at 100, 500, 800 and 1000 annotations, and of the full training set.

The claim: at 1000 annotations DFAL leads (or shares the lead with CORE-SET). Figure 2 shows the same trials.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dfal.engine import Job
from dfal.reproduce import paper
from dfal.reproduce.beside import Cell, Table, Verdict, accuracy, points, positive, signed, table
from dfal.reproduce.presets import ROWS, Preset
from dfal.reproduce.shelf import Shelf, area_pairs, curve, pairs
from dfal.results import Curve, Study
from dfal.statistics import half_width, holm, needed, paired_p, seeds_needed

BUDGETS = (100, 500, 800, 1000)
RIVALS = tuple(name for name in ROWS if not name.startswith("dfal"))


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Every strategy with every seed, and then the network that knows all labels."""
    return [[*preset.trials(), *preset.full()]]


def tables(shelf: Shelf) -> list[Table]:
    """For each data set and network: accuracies beside the paper's, and what the paper does not say."""
    return [made for study in shelf.main for made in (_accuracies(shelf, study), _statistics(shelf, study), _costs(study))]


def budgets(study: Study) -> list[int]:
    """The paper's budgets, or where not all of them were measured some of ours."""
    longest = max(study.curves, key=lambda one: len(one.annotations))  # the others may still be on their way
    theirs = [budget for budget in BUDGETS if budget in longest.annotations]
    alone = dataclasses.replace(study, curves=(longest,), against=None)
    return theirs if len(theirs) == len(BUDGETS) else sorted({*alone.budgets(5), *theirs})


def _name(study: Study) -> str:
    return f"{study.settings.dataset}, {study.settings.model}"


def _accuracies(shelf: Shelf, study: Study) -> Table:
    published = paper.table1(study.settings.dataset, study.settings.model)
    shown = budgets(study)
    rows: list[tuple[str, list[Cell]]] = [
        (one.name, [accuracy(one.at(budget), published.get(one.name, {}).get(str(budget))) for budget in shown] + [Cell()])
        for one in study.curves
    ]
    everything = published.get(paper.FULL, {}).get("all")
    full = accuracy(shelf.full_accuracy(study), everything)
    rows.append(("full training set", [Cell()] * len(shown) + [full if full.ours else Cell()]))
    return table(
        "table1",
        f"Table 1: {_name(study)}",
        "Test accuracy in %, mean over seeds ± half of its 95 % t interval, and the paper's number. Coloured where ours "
        "differs from it: t-test against the paper's number as if it were exact, p < 0.05 after Holm's correction for the "
        "table. " + paper.ODDITIES,
        [*(str(budget) for budget in shown), "all"],
        rows,
    )


def _statistics(shelf: Shelf, study: Study) -> Table:
    """Areas, differences from DFAL over paired seeds, annotations for a target, seeds that would be needed."""
    dfal, full = curve(study, "dfal"), shelf.full_accuracy(study)
    target = None if full is None else float(full.mean()) - 0.005
    differences = {
        one.name: found for one in study.curves if dfal and one is not dfal and (found := area_pairs(dfal, one)) is not None
    }
    p = dict(zip(differences, holm([paired_p(one) for one in differences.values()]), strict=True))
    rows = []
    for one in study.curves:
        area, found = one.area, differences.get(one.name)
        spread = "" if len(area) < 2 else f"± {100 * half_width(area):.2f}"
        rows.append(
            (
                one.name,
                [
                    Cell(f"{100 * area.mean():.2f}", spread),
                    Cell() if found is None else Cell(signed(100 * float(found.mean())), _half(found)),
                    Cell() if found is None or np.isnan(p[one.name]) else Cell(_p(p[one.name])),
                    Cell() if found is None or len(found) < 2 else Cell(_count(seeds_needed(found))),
                    Cell() if target is None else needed_cell(one, target),
                    Cell(f"{one.running_maximum[-1]:.2%}".removesuffix("%")),
                ],
            )
        )
    to = "" if target is None else f" ({100 * target:.2f} %)"
    return table(
        "statistics",
        f"What the paper does not say: {_name(study)}",
        "area: mean accuracy over the budgets in %, ± half of its 95 % t interval. DFAL − this: the difference of areas "
        "over paired seeds; p: paired t-test with Holm's correction. seeds: how many would be needed to see that "
        "difference at 5 % with a chance of 80 %. to the target: annotations for the accuracy of the full training set − "
        f"0.5{to}, with a 95 % bootstrap interval over seeds; > where it was not reached. running maximum: at the last "
        "budget, as the paper plots it.",
        ["area", "DFAL − this", "p", "seeds", "to the target", "running maximum"],
        rows,
    )


def _costs(study: Study) -> Table:
    seeds = sorted({trial.seed for one in study.curves for trial in one.trials})
    rows = []
    for one in study.curves:
        by_seed = dict(zip((trial.seed for trial in one.trials), one.seconds, strict=True))
        cells = [Cell(_seconds(by_seed[seed])) if seed in by_seed else Cell() for seed in seeds]
        rows.append((one.name, [*cells, Cell(f"{one.seconds.sum() / 3600:.2f}")]))
    return table(
        "costs",
        f"What each trial cost: {_name(study)}",
        "Seconds of one thread for training and choosing, without the measurement on the test set; hours in all.",
        [*(f"seed {seed}" for seed in seeds), "hours"],
        rows,
    )


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def needed_cell(one: Curve, target: float, published: str = "") -> Cell:
    """Annotations for a target, censored at the last budget."""
    found, last = needed(one.annotations, one.accuracy, target), int(one.annotations[-1])

    def text(value: float) -> str:
        return f"> {last}" if np.isinf(value) else f"{value:.0f}"

    known = np.isfinite(found.low)  # where even the best draw of seeds does not reach it, there is nothing to add
    spread = f"[{text(found.low)}, {text(found.high)}]" if known else ""
    return Cell(text(found.annotations), spread, published)


def _half(values: np.ndarray) -> str:
    return "" if len(values) < 2 else f"± {100 * half_width(values):.2f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: float) -> str:
    return "> 100,000" if np.isinf(value) else f"{value:.0f}"


def verdicts(shelf: Shelf) -> list[Verdict]:
    """The lead, and that twins help."""
    return [made for study in shelf.main if (dfal := curve(study, "dfal")) for made in (lead(study, dfal), twins(study, dfal))]


def lead(study: Study, dfal: Curve) -> Verdict:
    """DFAL is above every strategy of the paper at the last budget (1000 in the paper)."""
    budget = int(dfal.annotations[-1])
    rivals = {one.name: found for one in study.curves if one.name in RIVALS and (found := pairs(dfal, one, budget)) is not None}
    return Verdict(
        f"DFAL leads at {budget} annotations ({_name(study)})",
        positive(list(rivals.values())) if rivals else "undecided",
        "DFAL − " + "; − ".join(f"{name} {points(one)}" for name, one in rivals.items())
        if rivals
        else "no other strategy was run",
    )


def twins(study: Study, dfal: Curve) -> Verdict:
    """DFAL's curve lies above the one without twins."""
    return larger_area(study, dfal, "dfal-no-twins", "Adversarial twins help")


def larger_area(study: Study, dfal: Curve, rival: str, claim: str) -> Verdict:
    """DFAL has a larger area under its curve than another, over paired seeds."""
    other = curve(study, rival)
    found = area_pairs(dfal, other) if other else None
    return Verdict(
        f"{claim} ({_name(study)})",
        "undecided" if found is None else positive([found]),
        f"{rival} was not run" if found is None else f"difference of areas {points(found)}",
    )
