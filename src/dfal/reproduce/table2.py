"""Table 2: annotations and labelled data to the full training set's accuracy − 0.5 points.

The claim: DFAL needs fewer annotations than the next best. The paper's caption says ± 0.5, but its
curves fit − 0.5 only.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dfal.analysis.learning_curves import Curve, Study, common, same_seeds
from dfal.analysis.tables import CI, Answer, Cell, Table, Verdict, needed_cell, number, table
from dfal.experiments.jobs import Job
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve_named, order
from dfal.stats.significance import annotations_saved

ROWS = ("dfal", "core-set")
WITHIN = 0.005
THEIRS = "the paper's"
NOTHING_PUBLISHED = paper.Table2Row("", "")


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Return trials of DFAL and CORE-SET (or the given strategies) that continue Table 1's."""
    rows = ROWS if preset.strategies == Preset(preset.trial).strategies else preset.strategies
    return [
        [
            *preset.trials(rows, annotations=max(preset.until, preset.trial.annotations)),
            *preset.full(),
        ]
    ]


def _longest(results: StoredResults) -> list[Study]:
    """Return for each data set and network the study with the most annotations.

    A strategy of the paper's table that it lacks comes from the next largest study with the same
    settings: a strategy that has reached the target need not run as long as one that has not.
    """
    best: dict[tuple[str, str], Study] = {}
    for study in sorted(
        results.studies, key=lambda study: study.settings.annotations, reverse=True
    ):
        farthest = best.setdefault((study.settings.dataset, study.settings.model), study)
        if replace(study.settings, annotations=farthest.settings.annotations) == farthest.settings:
            missing = [
                curve
                for curve in study.curves
                if curve.name in ROWS and not curve_named(farthest, curve.name)
            ]
            best[study.settings.dataset, study.settings.model] = replace(
                farthest, curves=(*missing, *farthest.curves)
            )
    return sorted(best.values(), key=lambda study: order(study.settings))


def _targets(results: StoredResults, study: Study) -> dict[str, float]:
    """Return the paper's accuracy of the full training set and ours, both − 0.5 points."""
    theirs = (
        paper.table1(study.settings.dataset, study.settings.model).get(paper.FULL, {}).get("all")
    )
    ours = results.full_accuracy(study)
    targets = {} if theirs is None else {THEIRS: theirs - WITHIN}
    return targets if ours is None else targets | {"our": float(ours.mean()) - WITHIN}


def tables(results: StoredResults) -> list[Table]:
    """Make the tables of annotations and labelled data to the paper's target and to ours."""
    return [_needed(results, study) for study in _longest(results)]


def _needed(results: StoredResults, study: Study) -> Table:
    targets = _targets(results, study)
    published = paper.table2(study.settings.dataset, study.settings.model)
    rows = []
    for curve in study.curves:
        theirs = published.get(curve.name, NOTHING_PUBLISHED)
        for name, counted in (
            (curve.name, curve),
            (f"{curve.name}, running maximum", curve.running_maximum),
        ):
            cells: list[Cell] = []
            for whose, target in targets.items():  # the paper's numbers are for its own target
                paper_row = theirs if whose == THEIRS else NOTHING_PUBLISHED
                cells += [
                    needed_cell(counted, target, paper_row.annotations),
                    _labelled(counted, target, paper_row.labelled_data),
                ]
            rows.append((name, cells))
    for name, theirs in published.items():
        if not curve_named(study, name):
            paper_cells = [Cell(paper=theirs.annotations), Cell(paper=theirs.labelled_data)]
            not_run = [
                cell
                for whose in targets
                for cell in (paper_cells if whose == THEIRS else [Cell(), Cell()])
            ]
            rows.append((name, not_run))
    head = [
        f"{unit} to {whose} {100 * target:.2f} %"
        for whose, target in targets.items()
        for unit in ("annotations", "labelled data")
    ]
    return table(
        "table2",
        f"Table 2: {study.settings.dataset}, {study.settings.model}",
        "Annotations at which the mean accuracy first reaches the full training set's − 0.5, the"
        f" paper's and ours, with a {CI} by bootstrap over seeds (> where the last budget does not"
        " reach it), and the labelled data there; for the paper's target also the paper's number."
        " The paper counts by running maxima, which reach a target earlier: compare its numbers"
        " with those rows." + paper.caution(study.settings.dataset),
        head,
        rows,
    )


def _labelled(curve: Curve, target: float, published: str) -> Cell:
    """Make the cell of the labelled data at the first budget that reaches a target."""
    reached = np.flatnonzero(curve.mean >= target)
    if not len(reached):
        return Cell(f"> {curve.labelled_data[-1]:.0f}", "", published, value=float("inf"))
    return replace(number(float(curve.labelled_data[reached[0]])), paper=published)


def verdicts(results: StoredResults) -> list[Verdict]:
    """Judge the savings at our own full training set's target, or the paper's if there is none."""
    judged = []
    for study in _longest(results):
        dfal, targets = curve_named(study, "dfal"), _targets(results, study)
        if paper.is_part(study.settings.dataset):
            targets.pop(THEIRS, None)  # an accuracy on other data
        if dfal and targets:
            target = list(targets.values())[-1]
            judged += [
                savings(study, dfal, curve, target)
                for curve in study.curves
                if curve.name in ("core-set", "random")
            ]
    return judged


def savings(study: Study, dfal: Curve, rival: Curve, target: float) -> Verdict:
    """Judge whether DFAL reaches a target with fewer annotations than another strategy."""
    _, theirs = same_seeds([dfal, rival])
    ours, _ = common([dfal, rival])
    saved = annotations_saved(
        (ours.annotations, ours.accuracy), (theirs.annotations, theirs.accuracy), target
    )
    answer: Answer = "undecided"
    if saved.low > 0:
        answer = "reproduced"
    elif saved.high < 0 or (saved.low == saved.high == 0 and ours.needed(target) is not None):
        answer = "not reproduced"
    at = ", ".join(
        f"{curve.name} {curve.needed(target) or f'> {curve.annotations[-1]}'}"
        for curve in (ours, theirs)
    )
    interval = "" if np.isnan(saved.low) else f" [{_whole(saved.low)}, {_whole(saved.high)}]"
    least = "at least " if theirs.needed(target) is None and ours.needed(target) else ""
    if ours.needed(target) is None and theirs.needed(target) is None:
        numbers = f"{at}: neither reached it"
    else:
        numbers = f"{at}: {least}{_whole(saved.annotations)} fewer{interval}"
    return Verdict(
        f"DFAL needs fewer annotations than {rival.name} for {100 * target:.2f} %",
        answer,
        numbers,
        f"{study.settings.dataset}, {study.settings.model}",
    )


def _whole(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")
