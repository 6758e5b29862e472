"""Table 4: a network trained on 1000 annotations that another network selected.

The claim: images that DFAL selects for one network train another better than random ones. The paper
leaves open whether the twins made for one network also fool the other; a second table says so.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float64

from dfal.analysis.rows import candidates_of
from dfal.analysis.tables import (
    CI,
    Table,
    Verdict,
    accuracy,
    number,
    percent,
    points,
    positive,
    table,
    to_decide,
)
from dfal.experiments.jobs import Job
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.reproduce import paper
from dfal.reproduce.paper import Direction
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, name_in
from dfal.reproduce.transfer import Transfer
from dfal.strategies import Random

ROWS = ("dfal", "core-set", "random")
"""The strategies of Table 4."""


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Return the trials that select images with each network, and then the transfers of these.

    What random sampling takes does not depend on the network: it is run once. DFAL's twins are also
    shown to another initialisation of the network that they were made for.
    """
    model, other = preset.trial.model, preset.other
    directions = [Direction(model, other)]
    if not preset.one_way:
        directions.append(Direction(other, model))
    selecting = {
        direction.selected_by: preset.trials(ROWS[:2], model=direction.selected_by)
        for direction in directions
    }
    random = preset.trials(ROWS[2:])
    half, last = budgets(preset.trial)
    transfers = []
    for seed in range(preset.seeds):
        for direction in directions:
            trials = [trial for trial in selecting[direction.selected_by] if trial.seed == seed]
            transfers += [
                _transfer(preset, trial, direction.trained_on, (half, last))
                for trial in [*trials, random[seed]]
            ]
            transfers.append(_transfer(preset, trials[0], direction.selected_by, (half,)))
    return [[*random, *chain.from_iterable(selecting.values())], transfers]


def budgets(trial: Trial) -> tuple[int, int]:
    """Return the budgets of a trial's middle round, after which twins follow, and of its last."""
    rounds = (trial.annotations - trial.first) // trial.batch
    return trial.first + trial.batch * (rounds // 2), trial.annotations


def _transfer(preset: Preset, source: Trial, model: str, at: tuple[int, ...]) -> Transfer:
    return Transfer(source, model, at, training=preset.trial.training, device=preset.trial.device)


@dataclass(frozen=True, order=True)
class Transferred:
    """The strategy, the networks and the annotations of a transfer's round."""

    strategy: str
    direction: Direction
    budget: int


Rounds = dict[Transferred, dict[int, Record]]
"""What was transferred → seed → the round of the transfer."""


def rounds_of(results: StoredResults, dataset: str) -> Rounds:
    """Return the rounds of the transfers on a data set.

    What random sampling took counts as selected by every network but the one that is trained.
    """
    rounds: Rounds = {}
    models = {
        model
        for transfer, _ in results.transfers
        for model in (transfer.model, transfer.source.model)
    }
    for transfer, records in comparable(results, dataset):
        name = name_in(transfer.source, transfer.source.strategy)
        selecting = (
            sorted(models - {transfer.model}) if name == "random" else [transfer.source.model]
        )
        for record in records:
            for selected_by in selecting:
                key = Transferred(
                    name,
                    Direction(selected_by, transfer.model),
                    int(record.measurements["annotations"]),
                )
                rounds.setdefault(key, {})[transfer.source.seed] = record
    return rounds


def comparable(results: StoredResults, dataset: str) -> list[tuple[Transfer, tuple[Record, ...]]]:
    """Return the transfers on a data set that have its most common settings.

    So each seed counts once.
    """
    here = [
        (transfer, records)
        for transfer, records in results.transfers
        if transfer.dataset == dataset
    ]
    counts = Counter(_settings(transfer) for transfer, _ in here)
    if not counts:
        return []
    common = max(counts, key=lambda settings: counts[settings] if settings.candidates else 0)
    wanted = {common, dataclasses.replace(common, candidates="")}  # random sampling has no K
    return [(transfer, records) for transfer, records in here if _settings(transfer) in wanted]


@dataclass(frozen=True)
class Settings:
    """What the transfers of a table have in common: K, and all but seeds, networks and budgets."""

    transfer: Transfer
    candidates: str


def _settings(transfer: Transfer) -> Settings:
    source = dataclasses.replace(
        transfer.source, strategy=Random(), seed=0, model="", annotations=transfer.source.first
    )
    common = dataclasses.replace(transfer, source=source, model="", at=(source.first,))
    return Settings(common, candidates_of(transfer.source.strategy))


def _measured(rounds: Mapping[int, Record], name: str = "accuracy") -> Float64[np.ndarray, "s"]:
    """Return a measurement of each seed that has it."""
    measurements = [rounds[seed].measurements for seed in sorted(rounds)]
    return np.array([values[name] for values in measurements if name in values])


def _datasets(results: StoredResults) -> list[str]:
    return sorted({transfer.dataset for transfer, _ in results.transfers})


def directions_of(rounds: Rounds) -> list[Direction]:
    """Return the directions from one network to another, sorted."""
    directions = {key.direction for key in rounds}
    return sorted(way for way in directions if way.selected_by != way.trained_on)


def tables(results: StoredResults) -> list[Table]:
    """Make the tables of accuracies at the last budget, and of the twins that fool a network."""
    return [
        made_table
        for dataset in _datasets(results)
        for made_table in (_accuracies(results, dataset), _twins(results, dataset))
    ]


def _last(rounds: Rounds, direction: Direction) -> int:
    return max(key.budget for key in rounds if key.direction == direction)


def _accuracies(results: StoredResults, dataset: str) -> Table:
    """Make the table with the accuracy of each direction at its last budget."""
    rounds, published = rounds_of(results, dataset), paper.table4(dataset)
    directions = directions_of(rounds)
    others = sum(transfer.dataset == dataset for transfer, _ in results.transfers)
    others -= len(comparable(results, dataset))
    rows = []
    for name in ROWS:
        cells = []
        for direction in directions:
            last = rounds.get(Transferred(name, direction, _last(rounds, direction)))
            cells.append(
                accuracy(
                    _measured(last) if last else None,
                    published.get((name, direction)),
                    tested=not paper.is_part(dataset),
                )
            )
        rows.append((name, cells))
    return table(
        "table4",
        f"Table 4: {dataset}",
        "Test accuracy in % of one network trained on the images that were selected (and the twins"
        " that were made) for the other, at the last budget, mean over seeds ± half of its"
        f" {CI} (Student's t), and the paper's number at 1000."
        + (
            paper.caution(dataset)
            or " Coloured where ours differs from it: t-test against the paper's number as"
            " if it were exact, p < 0.05 after Holm's correction."
        )
        + (f" Transfers left out for their other settings: {others}." if others else ""),
        [str(direction) for direction in directions],
        rows,
        highest=[str(direction) for direction in directions],
    )


def _twins(results: StoredResults, dataset: str) -> Table:
    """Make the table of how many twins, and how much noise, fool another network."""
    rows = []
    for key, rounds in sorted(rounds_of(results, dataset).items()):
        fooled, noise = _measured(rounds, "fooled"), _measured(rounds, "noise")
        if len(fooled):
            itself = key.direction.selected_by == key.direction.trained_on
            name = f"{key.strategy}: {key.direction}{' (another initialisation)' * itself}"
            rows.append((name, [number(key.budget), percent(fooled, 1), percent(noise, 1)]))
    return table(
        "twins",
        f"Twins made for one network, shown to the other: {dataset}",
        "Of 100 twins that were made for one network and that the other was trained on neither"
        " with nor without their perturbation: how many % the other classifies differently from"
        " their image (100 for the network they were made for), and how many images it classifies"
        " differently when they are moved as far in a random direction. Mean over seeds ± half of"
        f" its {CI} (Student's t).",
        ["annotations", "twins that fool", "noise that fools"],
        rows,
    )


def verdicts(results: StoredResults) -> list[Verdict]:
    """Judge the transfer in each direction."""
    judged = []
    for dataset in _datasets(results):
        rounds = rounds_of(results, dataset)
        for direction in directions_of(rounds):
            last = _last(rounds, direction)
            ours, random = (
                rounds.get(Transferred(name, direction, last), {}) for name in ("dfal", "random")
            )
            judged.append(transfer(str(direction), ours, random, dataset))
    return judged


def transfer(
    networks: str, ours: Mapping[int, Record], random: Mapping[int, Record], setting: str
) -> Verdict:
    """Judge whether images that DFAL selected train another network better than random ones.

    Args:
        networks: the direction in words.
        ours: seed → the round of DFAL's transfer.
        random: seed → the round of random sampling's.
        setting: the data set.
    """
    seeds = sorted(set(ours) & set(random))
    differences = np.array(
        [
            ours[seed].measurements["accuracy"] - random[seed].measurements["accuracy"]
            for seed in seeds
        ]
    )
    return Verdict(
        f"Images selected by DFAL train another network better than random ones ({networks})",
        positive([differences]) if seeds else "undecided",
        f"difference {points(differences)}{to_decide([differences])}"
        if seeds
        else "no pair of seeds was run",
        setting,
    )
