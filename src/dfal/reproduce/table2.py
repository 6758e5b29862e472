"""Table 2: annotations and labelled data until the accuracy of the full training set, within 0.5
points.

The claim: DFAL needs fewer annotations than the next best. The paper's caption says ± 0.5, and its
curves fit − 0.5 only.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dfal.analysis.learning_curves import Curve, Study, common, same_seeds
from dfal.analysis.tables import Answer, Cell, Table, Verdict, number, table
from dfal.experiments.runner import Job
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve, order
from dfal.reproduce.table1 import needed_cell
from dfal.stats.significance import annotations_saved

ROWS = ("dfal", "core-set")
WITHIN = 0.005
THEIRS = "the paper's"


def stages(preset: Preset) -> list[Sequence[Job]]:
    """DFAL and CORE-SET (or the strategies that are given) to more annotations. They go on from
    Table 1's trials."""
    rows = ROWS if preset.strategies == Preset(preset.trial).strategies else preset.strategies
    return [
        [
            *preset.trials(rows, annotations=max(preset.until, preset.trial.annotations)),
            *preset.full(),
        ]
    ]


def _longest(shelf: StoredResults) -> list[Study]:
    """For each data set and network the study that went farthest.

    A strategy of the paper's table that it lacks comes from the study that went next farthest with
    the same settings: who has reached the target need not go on because the other has not.
    """
    best: dict[tuple[str, str], Study] = {}
    for study in sorted(shelf.studies, key=lambda one: one.settings.annotations, reverse=True):
        farthest = best.setdefault((study.settings.dataset, study.settings.model), study)
        if replace(study.settings, annotations=farthest.settings.annotations) == farthest.settings:
            lacking = [
                one for one in study.curves if one.name in ROWS and not curve(farthest, one.name)
            ]
            best[study.settings.dataset, study.settings.model] = replace(
                farthest, curves=(*lacking, *farthest.curves)
            )
    return sorted(best.values(), key=lambda study: order(study.settings))


def _targets(shelf: StoredResults, study: Study) -> dict[str, float]:
    """The paper's accuracy of the full training set and ours, both − 0.5."""
    theirs = (
        paper.table1(study.settings.dataset, study.settings.model).get(paper.FULL, {}).get("all")
    )
    ours = shelf.full_accuracy(study)
    found = {} if theirs is None else {THEIRS: theirs - WITHIN}
    return found if ours is None else found | {"our": float(ours.mean()) - WITHIN}


def tables(shelf: StoredResults) -> list[Table]:
    """Annotations needed and labelled data, for the paper's target and for ours."""
    return [_needed(shelf, study) for study in _longest(shelf)]


def _needed(shelf: StoredResults, study: Study) -> Table:
    targets = _targets(shelf, study)
    published = paper.table2(study.settings.dataset, study.settings.model)
    rows = []
    for one in study.curves:
        there = published.get(one.name, ("", ""))
        for name, counted in (
            (one.name, one),
            (f"{one.name}, running maximum", one.running_maximum),
        ):
            cells: list[Cell] = []
            for what, target in targets.items():
                beside = (
                    there if what == THEIRS else ("", "")
                )  # the paper's numbers are for the paper's target
                cells += [
                    needed_cell(counted, target, beside[0]),
                    _labelled(counted, target, beside[1]),
                ]
            rows.append((name, cells))
    rows += [
        (name, [Cell(paper=text if what == THEIRS else "") for what in targets for text in there])
        for name, there in published.items()
        if not curve(study, name)
    ]
    head = [
        f"{unit} to {what} {100 * target:.2f} %"
        for what, target in targets.items()
        for unit in ("annotations", "labelled data")
    ]
    return table(
        "table2",
        f"Table 2: {study.settings.dataset}, {study.settings.model}",
        "Annotations at which the mean accuracy first reaches the full training set's − 0.5, the"
        " paper's and ours, with a 95 % bootstrap interval over seeds (> where the last budget does"
        " not reach it), and the labelled data there; beside the paper's target the paper's number."
        " The paper counts by running maxima, which are reached earlier: compare its numbers with"
        " those rows." + paper.caution(study.settings.dataset),
        head,
        rows,
    )


def _labelled(one: Curve, target: float, published: str) -> Cell:
    reached = np.flatnonzero(one.mean >= target)
    if not len(reached):
        return Cell(f"> {one.labelled_data[-1]:.0f}", "", published, value=float("inf"))
    return replace(number(float(one.labelled_data[reached[0]])), paper=published)


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """The savings, by the target of our own full training set, or the paper's where that was not
    run."""
    found = []
    for study in _longest(shelf):
        dfal, targets = curve(study, "dfal"), _targets(shelf, study)
        if paper.is_part(study.settings.dataset):
            targets.pop(THEIRS, None)  # an accuracy on other data
        if dfal and targets:
            target = list(targets.values())[-1]
            found += [
                savings(study, dfal, one, target)
                for one in study.curves
                if one.name in ("core-set", "random")
            ]
    return found


def savings(study: Study, dfal: Curve, rival: Curve, target: float) -> Verdict:
    """DFAL needs fewer annotations than another for a target."""
    _, theirs = same_seeds([dfal, rival])
    ours, _ = common([dfal, rival])
    found = annotations_saved(
        (ours.annotations, ours.accuracy), (theirs.annotations, theirs.accuracy), target
    )
    answer: Answer = "undecided"
    if found.low > 0:
        answer = "holds"
    elif found.high < 0 or (found.low == found.high == 0 and ours.needed(target) is not None):
        answer = "does not hold"
    at = ", ".join(
        f"{one.name} {one.needed(target) or f'> {one.annotations[-1]}'}" for one in (ours, theirs)
    )
    interval = "" if np.isnan(found.low) else f" [{_whole(found.low)}, {_whole(found.high)}]"
    least = "at least " if theirs.needed(target) is None and ours.needed(target) else ""
    if ours.needed(target) is None and theirs.needed(target) is None:
        numbers = f"{at}: neither reached it"
    else:
        numbers = f"{at}: {least}{_whole(found.annotations)} fewer{interval}"
    return Verdict(
        f"DFAL needs fewer annotations than {rival.name} for {100 * target:.2f} %",
        answer,
        numbers,
        f"{study.settings.dataset}, {study.settings.model}",
    )


def _whole(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")
