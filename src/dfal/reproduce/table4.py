"""Table 4: a network trained on 1000 annotations that were chosen for the other.

The claim: images chosen by DFAL for one network train another better than random ones. Added here,
because the paper leaves it
open: do the twins made for one network still fool the other?
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from jaxtyping import Float64

from dfal.analysis.studies import looks_at
from dfal.analysis.tables import Table, Verdict, accuracy, number, percent, points, positive, table
from dfal.experiments.runner import Job
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, name_in
from dfal.reproduce.transfer import Transfer
from dfal.strategies import Random

ROWS = ("dfal", "core-set", "random")


def stages(preset: Preset) -> list[Sequence[Job]]:
    """The trials that choose, for each of the two networks, and then the other network on what they
    chose.

    What random choice takes does not depend on the network: it is run once. DFAL's twins are also
    shown to another initialisation of the network that they were made for.
    """
    one, other = preset.trial.model, preset.other
    ways = ((one, other),) if preset.one_way else ((one, other), (other, one))
    chosen = {model: preset.trials(ROWS[:2], model=model) for model, _ in ways}
    random = preset.trials(ROWS[2:])
    half, last = budgets(preset.trial)
    transfers = []
    for seed in range(preset.seeds):
        for source, target in ways:
            mine = [trial for trial in chosen[source] if trial.seed == seed]
            transfers += [
                _transfer(preset, trial, target, (half, last)) for trial in [*mine, random[seed]]
            ]
            transfers.append(_transfer(preset, mine[0], source, (half,)))
    return [[*random, *chain.from_iterable(chosen.values())], transfers]


def budgets(trial: Trial) -> tuple[int, int]:
    """The round in the middle of a trial, where twins still follow, and the last."""
    rounds = (trial.annotations - trial.first) // trial.batch
    return trial.first + trial.batch * (rounds // 2), trial.annotations


def _transfer(preset: Preset, source: Trial, model: str, at: tuple[int, ...]) -> Transfer:
    return Transfer(source, model, at, training=preset.trial.training, device=preset.trial.device)


Values = dict[tuple[str, str, str, int], dict[int, Record]]
"""(strategy, selected by, trained on, budget) → seed → round."""


def found(shelf: StoredResults, dataset: str) -> Values:
    """The transfers on these data. What random choice took counts for every network but the one
    that is trained."""
    values: Values = {}
    models = {one.model for one, _ in shelf.transfers} | {
        one.source.model for one, _ in shelf.transfers
    }
    for transfer, records in alike(shelf, dataset):
        name = name_in(transfer.source, transfer.source.strategy)
        by = sorted(models - {transfer.model}) if name == "random" else [transfer.source.model]
        for record in records:
            for source in by:
                key = (name, source, transfer.model, int(record.measurements["annotations"]))
                values.setdefault(key, {})[transfer.source.seed] = record
    return values


def alike(shelf: StoredResults, dataset: str) -> list[tuple[Transfer, tuple[Record, ...]]]:
    """The transfers on these data with the settings that most of them have: no seed counts
    twice."""
    here = [(one, records) for one, records in shelf.transfers if one.dataset == dataset]
    settings = Counter(_settings(one) for one, _ in here)
    if not settings:
        return []
    usual = max(settings, key=lambda one: settings[one] if one[1] else 0)
    kept = {usual, (usual[0], "")}  # random choice has no K
    return [(one, records) for one, records in here if _settings(one) in kept]


def _settings(one: Transfer) -> tuple[Transfer, str]:
    """All but strategy, seed, networks and budgets, in which the transfers of a table differ; and
    K."""
    source = dataclasses.replace(
        one.source, strategy=Random(), seed=0, model="", annotations=one.source.first
    )
    return dataclasses.replace(one, source=source, model="", at=(source.first,)), looks_at(
        one.source.strategy
    )


def _of(rounds: Mapping[int, Record], what: str = "accuracy") -> Float64[np.ndarray, "s"]:
    return np.array(
        [
            rounds[seed].measurements[what]
            for seed in sorted(rounds)
            if what in rounds[seed].measurements
        ]
    )


def _datasets(shelf: StoredResults) -> list[str]:
    return sorted({transfer.dataset for transfer, _ in shelf.transfers})


def _directions(values: Values) -> list[tuple[str, str]]:
    return sorted({(source, target) for _, source, target, _ in values if source != target})


def tables(shelf: StoredResults) -> list[Table]:
    """Accuracy at the last budget of each direction, and how many twins fool."""
    return [
        made
        for dataset in _datasets(shelf)
        for made in (_accuracies(shelf, dataset), _twins(shelf, dataset))
    ]


def _last(values: Values, source: str, target: str) -> int:
    return max(budget for _, by, on, budget in values if (by, on) == (source, target))


def _accuracies(shelf: StoredResults, dataset: str) -> Table:
    values, published = found(shelf, dataset), paper.table4(dataset)
    directions = _directions(values)
    others = sum(one.dataset == dataset for one, _ in shelf.transfers) - len(alike(shelf, dataset))
    rows = []
    for name in ROWS:
        cells = []
        for source, target in directions:
            rounds = values.get((name, source, target, _last(values, source, target)))
            ours = _of(rounds) if rounds else None
            cells.append(
                accuracy(
                    ours, published.get((name, source, target)), tested=not paper.is_part(dataset)
                )
            )
        rows.append((name, cells))
    return table(
        "table4",
        f"Table 4: {dataset}",
        "Test accuracy in % of one network trained on what was chosen (and the twins that were"
        " made) for the other, at the last budget, mean over seeds ± half of its 95 % t interval,"
        " and the paper's number at 1000."
        + (
            paper.caution(dataset)
            or " Coloured where ours differs from it: t-test against the paper's number as"
            " if it were exact, p < 0.05 after Holm's correction."
        )
        + (f" Transfers left out for their other settings: {others}." if others else ""),
        [f"{source} → {target}" for source, target in directions],
        rows,
    )


def _twins(shelf: StoredResults, dataset: str) -> Table:
    rows = []
    for (name, source, target, budget), rounds in sorted(found(shelf, dataset).items()):
        fooled, noise = _of(rounds, "fooled"), _of(rounds, "noise")
        if len(fooled):
            title = f"{name}: {source} → {target}" + (
                " (another initialisation)" if source == target else ""
            )
            rows.append((title, [number(budget), percent(fooled, 1), percent(noise, 1)]))
    return table(
        "twins",
        f"Twins made for one network, shown to the other: {dataset}",
        "Of 100 twins that one network has not learnt, nor their images: how many % it gives"
        " another class than their image (100 for the network they were made for), and how many"
        " images it gives another class when moved as far in a random direction. Mean over seeds ±"
        " half of the 95 % t interval.",
        ["annotations", "twins that fool", "noise that fools"],
        rows,
    )


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """The transfer, for each direction."""
    made = []
    for dataset in _datasets(shelf):
        values = found(shelf, dataset)
        for source, target in _directions(values):
            last = _last(values, source, target)
            ours, random = (
                values.get((name, source, target, last), {}) for name in ("dfal", "random")
            )
            made.append(transfer(f"{source} → {target}", ours, random, dataset))
    return made


def transfer(
    networks: str, ours: Mapping[int, Record], random: Mapping[int, Record], setting: str
) -> Verdict:
    """What DFAL chose for one network trains the other better than random choice, over paired
    seeds."""
    seeds = sorted(set(ours) & set(random))
    differences = np.array(
        [
            ours[seed].measurements["accuracy"] - random[seed].measurements["accuracy"]
            for seed in seeds
        ]
    )
    return Verdict(
        f"DFAL's choice trains another network better than random choice ({networks})",
        positive([differences]) if seeds else "undecided",
        f"difference {points(differences)}" if seeds else "no pair of seeds was run",
        setting,
    )
