"""Figure 3: Shoe-Bag, VGG8 trained on what was chosen for LeNet5, beside what was chosen for
itself.

The claim: VGG8 learns from LeNet5's choice nearly as well as from its own, and better than from
random images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dfal.analysis.tables import Cell, Table, Verdict, accuracy, table
from dfal.errors import DfalError
from dfal.experiments.runner import Job
from dfal.reproduce import paper, table4
from dfal.reproduce.paper import Points
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve
from dfal.reproduce.transfer import Transfer

DATASET = "shoe-bag"
"""What the paper drew it for."""
FEWEST = 3
"""Budgets that make a line; with two it is Table 4."""
POINTS = 9
"""Networks on the way, from a fifth of the annotations on: at 200, 300, … 1000."""


def stages(preset: Preset) -> list[Sequence[Job]]:
    """The network's own trials, those of the one that chooses for it, and the transfers."""
    one, other = preset.trial.model, preset.other
    own, foreign = (
        preset.trials(table4.ROWS, model=other),
        preset.trials(table4.ROWS[:2], model=one),
    )
    at = budgets(preset)
    if len(at) < FEWEST:
        raise DfalError(
            f"figure 3 is drawn from {FEWEST} budgets or more, and from {preset.trial.first} to"
            f" {preset.trial.annotations} annotations with {preset.trial.batch} a round there are"
            f" {len(at)}: give more annotations or a smaller batch"
        )
    transfers = [
        Transfer(trial, other, at, training=preset.trial.training, device=preset.trial.device)
        for trial in foreign
    ]
    return [[*foreign, *own], transfers]


def budgets(preset: Preset) -> tuple[int, ...]:
    """Those of the figure, as rounds of the trial."""
    trial = preset.trial
    rounds = (trial.annotations - trial.first) // trial.batch
    places = sorted({round(place) for place in np.linspace(rounds * 0.192, rounds, POINTS)})
    return tuple(trial.first + trial.batch * place for place in places)


@dataclass(frozen=True)
class Series:
    """A line of the figure: its name in the paper's words, budgets, and accuracies s seeds × b
    budgets."""

    name: str
    annotations: Int64[np.ndarray, "b"]
    accuracy: Float64[np.ndarray, "s b"]


def series(shelf: StoredResults) -> dict[str, list[Series]]:
    """Setting → lines: what was chosen for another network, where it was measured at several
    budgets, and the network's own."""
    made: dict[str, list[Series]] = {}
    for dataset in sorted({transfer.dataset for transfer, _ in shelf.transfers}):
        values = table4.found(shelf, dataset)
        for source, target in sorted(
            {(source, target) for _, source, target, _ in values if source != target}
        ):
            for name in table4.ROWS[:2]:
                at = {
                    budget: rounds
                    for (one, by, on, budget), rounds in values.items()
                    if (one, by, on) == (name, source, target)
                }
                whole = set.intersection(*map(set, at.values())) if len(at) >= FEWEST else set()
                if not whole:
                    continue
                accuracies = [
                    [at[budget][seed].measurements["accuracy"] for budget in sorted(at)]
                    for seed in sorted(whole)
                ]
                lines = made.setdefault(f"{dataset}, {target}", [])
                lines.append(Series(f"{source} {name}", np.array(sorted(at)), np.array(accuracies)))
            for study in shelf.main:
                if (study.settings.dataset, study.settings.model) == (
                    dataset,
                    target,
                ) and f"{dataset}, {target}" in made:
                    own = [one for name in table4.ROWS if (one := curve(study, name))]
                    made[f"{dataset}, {target}"] += [
                        Series(one.name, one.annotations, one.accuracy) for one in own
                    ]
    return made


def published(setting: str) -> dict[str, Points]:
    """The paper's points by our names of the lines; the paper has Shoe-Bag and VGG8 only."""
    dataset, model = setting.split(", ")
    if (paper.dataset_of(dataset), model) != ("shoe-bag", "vgg8"):
        return {}
    points = paper.figure3()
    return {name: points[theirs] for name, theirs in PAPER.items()}


PAPER = {"dfal": "DFAL", "core-set": "CORE SET", "random": "RANDOM"}
PAPER |= {"lenet5 dfal": "LeNet5 DFAL", "lenet5 core-set": "LeNet5 CORE SET"}
"""Our names of the lines and the paper's."""


def tables(shelf: StoredResults) -> list[Table]:
    """The lines at the budgets of the transfers."""
    made = []
    for setting, lines in series(shelf).items():
        at = lines[0].annotations.tolist()
        rows = [
            (
                line.name,
                [
                    (
                        accuracy(line.accuracy[:, list(line.annotations).index(budget)])
                        if budget in line.annotations
                        else Cell()
                    )
                    for budget in at
                ],
            )
            for line in lines
        ]
        caption = (
            "Test accuracy in %, mean over seeds ± half of its 95 % t interval. A line with a"
            " network before it is what was chosen for that network."
        )
        made.append(
            table("figure3", f"Figure 3: {setting}", caption, [str(budget) for budget in at], rows)
        )
    return made


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """Table 4's."""
    return table4.verdicts(shelf)
