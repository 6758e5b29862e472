"""Read the studies of a store, and write measurements and queried images as CSV."""

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.rows import COLUMNS, Kind, candidates_of, trial_rows
from dfal.atomic import atomic_write
from dfal.damage import RESTORE
from dfal.errors import DfalError
from dfal.experiments.recipes import LEARNING, PAPER, learning_of, recipe_of
from dfal.experiments.serialization import is_kind
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.nn.training_settings import Training
from dfal.protocols import Strategy
from dfal.spreadsheet import defused
from dfal.strategies import STRATEGIES, Random, name_of

NETWORK = {"dataset", "model", "backbone", "size"}
"""Settings that stand at the beginning of a study's title."""
ADDED = {field.name for field in dataclasses.fields(Training) if field.metadata.get("added")}
"""Settings of a training that results without a word about it do not have."""


def titles(studies: Sequence[Study]) -> list[str]:
    """Return the data set, network and recipe of each study, and every setting that differs.

    The recipe is named where one of them does not learn as the paper does, with the settings that
    are not the recipe's; so is a training of the user's own. A data set that is a file or folder is
    called by its name alone, unless two have the same.
    """
    settings = [_settings(study) for study in studies]
    recipes = [recipe_of(study.settings) for study in studies]
    datasets = {values["dataset"] for values in settings}
    names = Counter(Path(dataset).name for dataset in datasets)
    short = {
        dataset: Path(dataset).name if names[Path(dataset).name] == 1 else dataset
        for dataset in datasets
    }
    changed = {name for _, changes in recipes for name in changes}
    always = {"fit"} & {name for values in settings for name in values if values[name]}
    for recipe, changes in recipes:
        always |= changes.keys() & (ADDED | set(LEARNING)) if recipe == PAPER else changes.keys()
    learning = learning_of(studies[0].settings).keys() if studies else ()
    different = [
        name
        for name in (settings[0] if settings else {})
        if name in always
        or (
            name not in NETWORK
            and len({str(values[name]) for values in settings}) > 1
            and (name not in learning or name in changed)
        )
    ]
    has_recipes = any(recipe != PAPER for recipe, _ in recipes)
    return [
        ", ".join(
            [short[values["dataset"]], study.settings.network]
            + [f"recipe {recipe}"] * has_recipes
            + [f"{name} {values[name]}" for name in different if values[name] != ""]
        )
        for study, values, (recipe, _) in zip(studies, settings, recipes, strict=True)
    ]


def _settings(study: Study) -> dict[str, Any]:
    """Return what the trials of a study have in common, by name: their fields, and K."""
    trial = study.settings
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    common = {
        name: value
        for name, value in fields.items()
        if name not in {"strategy", "seed", "training"}
    }
    numbers = dict.fromkeys(candidates_of(curve.trials[0].strategy) for curve in study.curves)
    return (
        common
        | dataclasses.asdict(trial.training)
        | {"candidates": " and ".join(number for number in numbers if number)}
    )


def write_csv(studies: Sequence[Study], path: Path, kind: Kind = "measurements") -> None:
    """Write every measurement, or every queried image, as a row of a CSV file.

    docs/store.md describes the columns. A trial of several studies is written once.

    Raises:
        DfalError: if the file cannot be written.
    """
    with (
        atomic_write(path, "name another file") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        write_row = csv.writer(file, lineterminator="\n").writerow
        write_row(COLUMNS[kind])
        written: set[str] = set()
        for title, study in zip(titles(studies), studies, strict=True):
            for curve in study.curves:
                for trial, records in zip(curve.trials, curve.records, strict=True):
                    if trial.id not in written:
                        for row in trial_rows(curve.name, trial, records, kind, title):
                            write_row([_cell(name, value) for name, value in row.items()])
                    written.add(trial.id)


def _cell(column: str, value: Any) -> Any:
    """Return a value of a row as it stands in a CSV file."""
    if column.startswith("seconds"):
        return f"{value:.3f}"
    return defused(value) if isinstance(value, str) else value


MEASURED = {"annotations", "labelled_data", "accuracy"}
"""The measurements of every round of a trial."""
Group = dict[Strategy, dict[int, tuple[Trial, tuple[Record, ...]]]]
"""Strategy → seed → its trial with its rounds."""


def studies(
    store: Store,
    against: str | None = None,
    *,
    named: Callable[[Trial, Strategy], str] = lambda _, strategy: name_of(strategy),
    apart: bool = False,
) -> list[Study]:
    """Read the studies of a store; trials without a finished round are left out.

    Args:
        store: an open store.
        against: the strategy that all others are compared with.
        named: returns the name of a strategy among trials with these settings.
        apart: whether strategies with different K become separate studies, instead of curves of one
            study with K in their names.

    Raises:
        DfalError: if no study has the strategy `against`, or a round was not measured.
    """
    groups: dict[Trial, Group] = {}
    for stored, text in store.trials().items():
        if not is_kind(Trial, text):
            continue
        trial = Trial.from_json(text)
        if records := tuple(store.records(stored, twins=False)):
            if not all(record.measurements.keys() >= MEASURED for record in records):
                raise DfalError(
                    f"the store {store.path} is damaged (a round was not measured): {RESTORE}"
                )
            seeds = groups.setdefault(
                dataclasses.replace(trial, strategy=Random(), seed=0), {}
            ).setdefault(trial.strategy, {})
            _, stored_records = seeds.get(trial.seed, (trial, ()))
            if len(records) > len(stored_records):  # two texts of one trial are not two seeds
                seeds[trial.seed] = (trial, records)
    all_studies = [
        _study(settings, study_group, named)
        for settings, group in groups.items()
        for study_group in (_by_candidates(group) if apart else [group])
    ]
    names = dict.fromkeys(curve.name for study in all_studies for curve in study.curves)
    if against and all_studies and against not in names:
        raise DfalError(
            f"there is no strategy {against} to compare with: there are {', '.join(names)}"
        )
    return [
        dataclasses.replace(
            study, against=against if against in {curve.name for curve in study.curves} else None
        )
        for study in all_studies
    ]


def _by_candidates(group: Group) -> list[Group]:
    """Split a group by K; strategies that score no candidates belong to each part."""
    numbers = dict.fromkeys(number for strategy in group if (number := candidates_of(strategy)))
    return [
        {
            strategy: seeds
            for strategy, seeds in group.items()
            if candidates_of(strategy) in {number, ""}
        }
        for number in numbers or [""]
    ]


def _study(settings: Trial, group: Group, named: Callable[[Trial, Strategy], str]) -> Study:
    """Make a study whose curves are in the order of the registry, and then by K."""
    plain = {strategy: named(settings, strategy) for strategy in group}
    names = _distinct(plain)
    order = {name: place for place, name in enumerate(STRATEGIES)}
    strategies = sorted(
        group,
        key=lambda strategy: (
            order.get(plain[strategy], len(order)),
            len(candidates_of(strategy)),
            candidates_of(strategy),
        ),
    )
    return Study(
        settings,
        tuple(curve_of(names[strategy], list(group[strategy].values())) for strategy in strategies),
    )


def _distinct(plain: dict[Strategy, str]) -> dict[Strategy, str]:
    """Return names of which each means one strategy.

    They are the given names; where two are equal, all get their K; and those that are still equal
    become the strategy in full.
    """
    with_number = {
        strategy: f"{name} (K = {number})" if (number := candidates_of(strategy)) else name
        for strategy, name in plain.items()
    }
    for names in (plain, with_number):
        if len(set(names.values())) == len(names):
            return names
    count = Counter(with_number.values())
    return {
        strategy: name if count[name] == 1 else repr(strategy)
        for strategy, name in with_number.items()
    }


def curve_of(name: str, trials: Collection[tuple[Trial, tuple[Record, ...]]]) -> Curve:
    """Make the curve of one strategy from its trials and their rounds.

    It has the finished trials only, or if there are none all trials up to the last round that all
    have reached. So a study that runs seed by seed is as long as its finished seeds.
    """
    trials = sorted(trials, key=lambda pair: pair[0].seed)
    finished = [pair for pair in trials if pair[1][-1].last]
    used = finished or trials
    rounds = min(len(records) for _, records in used)

    def table(what: str) -> Float64[np.ndarray, "s b"]:
        return np.array(
            [[record.measurements[what] for record in records[:rounds]] for _, records in used]
        )

    return Curve(
        name,
        tuple(trial for trial, _ in used),
        tuple(records for _, records in used),
        table("annotations")[0].astype(np.int64),
        table("labelled_data").mean(0),
        table("accuracy"),
        bool(finished),
        tuple(trial.seed for trial, records in trials if finished and not records[-1].last),
    )
