"""Figure 3: Shoe-Bag, VGG8 trained on images selected by LeNet5, or selected by itself.

The claim: VGG8 trained on LeNet5's selection is nearly as accurate as on its own, and more accurate
than on random images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dfal.analysis.tables import CI, Cell, Table, Verdict, accuracy, table
from dfal.errors import DfalError
from dfal.experiments.jobs import Job
from dfal.reproduce import paper, table4
from dfal.reproduce.paper import Direction, Points
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve_named
from dfal.reproduce.transfer import Transfer

DATASET = "shoe-bag"
"""The data set of the paper's figure."""
MIN_BUDGETS = 3
"""Budgets of a line at least; two are those of Table 4."""
MAX_BUDGETS = 9
"""Budgets from a fifth of the annotations on: 200, 300, … 1000."""


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Return the trials of both networks, and then the transfers from one to the other.

    Raises:
        DfalError: with too few budgets for a line.
    """
    model, other = preset.trial.model, preset.other
    own = preset.trials(table4.ROWS, model=other)
    foreign = preset.trials(table4.ROWS[:2], model=model)
    at = budgets(preset)
    if len(at) < MIN_BUDGETS:
        raise DfalError(
            f"figure 3 needs {MIN_BUDGETS} budgets or more, and from {preset.trial.first} to"
            f" {preset.trial.annotations} annotations with {preset.trial.batch} per round there are"
            f" {len(at)}: give more annotations or a smaller batch"
        )
    transfers = [
        Transfer(trial, other, at, training=preset.trial.training, device=preset.trial.device)
        for trial in foreign
    ]
    return [[*foreign, *own], transfers]


def budgets(preset: Preset) -> tuple[int, ...]:
    """Return the budgets of the figure, each that of a round of the trial."""
    trial = preset.trial
    last = (trial.annotations - trial.first) // trial.batch
    rounds = sorted({round(number) for number in np.linspace(last * 0.192, last, MAX_BUDGETS)})
    return tuple(trial.first + trial.batch * number for number in rounds)


@dataclass(frozen=True)
class Series:
    """A line of the figure.

    Attributes:
        name: the strategy, after the network that selected if it is not the trained one.
        annotations: b budgets.
        accuracy: test accuracies as fractions, s seeds × b budgets.
    """

    name: str
    annotations: Int64[np.ndarray, "b"]
    accuracy: Float64[np.ndarray, "s b"]


def series(results: StoredResults) -> dict[str, list[Series]]:
    """Return the lines of each setting: transfers to a network, and the network's own trials."""
    lines: dict[str, list[Series]] = {}
    for dataset in sorted({transfer.dataset for transfer, _ in results.transfers}):
        rounds = table4.rounds_of(results, dataset)
        directions = table4.directions_of(rounds)
        for target in dict.fromkeys(direction.trained_on for direction in directions):
            transferred = [
                line
                for direction in directions
                if direction.trained_on == target
                for name in table4.ROWS[:2]
                if (line := _transferred(rounds, name, direction))
            ]
            if transferred:
                lines[f"{dataset}, {target}"] = [*transferred, *_own(results, dataset, target)]
    return lines


def _transferred(rounds: table4.Rounds, name: str, direction: Direction) -> Series | None:
    """Return the line of a strategy's transfers; None with fewer budgets than make a line."""
    by_budget = {
        key.budget: seeds
        for key, seeds in sorted(rounds.items())
        if (key.strategy, key.direction) == (name, direction)
    }
    if len(by_budget) < MIN_BUDGETS:
        return None
    complete = sorted(set.intersection(*map(set, by_budget.values())))
    accuracies = [
        [seeds[seed].measurements["accuracy"] for seeds in by_budget.values()] for seed in complete
    ]
    if not complete:
        return None
    return Series(
        f"{direction.selected_by} {name}", np.array(list(by_budget)), np.array(accuracies)
    )


def _own(results: StoredResults, dataset: str, model: str) -> list[Series]:
    """Return the lines of the network's own trials."""
    return [
        Series(curve.name, curve.annotations, curve.accuracy)
        for study in results.main
        if (study.settings.dataset, study.settings.model) == (dataset, model)
        for name in table4.ROWS
        if (curve := curve_named(study, name))
    ]


def published(setting: str) -> dict[str, Points]:
    """Return the paper's points by our names of the lines; only Shoe-Bag with VGG8 has some."""
    dataset, model = setting.split(", ")
    if (paper.dataset_of(dataset), model) != ("shoe-bag", "vgg8"):
        return {}
    points = paper.figure3()
    return {name: points[theirs] for name, theirs in PAPER.items()}


PAPER = {"dfal": "DFAL", "core-set": "CORE SET", "random": "RANDOM"}
PAPER |= {"lenet5 dfal": "LeNet5 DFAL", "lenet5 core-set": "LeNet5 CORE SET"}
"""Our name of a line → the paper's."""


def tables(results: StoredResults) -> list[Table]:
    """Make a table of the lines at the budgets of the transfers, for each setting."""
    made_tables = []
    for setting, lines in series(results).items():
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
            f"Test accuracy in %, mean over seeds ± half of its {CI} (Student's t). The images of a"
            " row that begins with a network were selected by that network."
        )
        head = [str(budget) for budget in at]
        made_tables.append(
            table(
                "figure3",
                f"Figure 3: {setting}",
                caption,
                head,
                rows,
                highest=head,
            )
        )
    return made_tables


def verdicts(results: StoredResults) -> list[Verdict]:
    """Judge the claim of Table 4."""
    return table4.verdicts(results)
