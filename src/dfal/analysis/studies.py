"""From a store to its studies, and to a CSV of all that was measured."""

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from dfal.analysis.learning_curves import Curve, Study
from dfal.atomic import atomic_write
from dfal.damage import RESTORE
from dfal.errors import DfalError
from dfal.experiments.serialization import is_kind
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.protocols import Strategy
from dfal.spreadsheet import defused
from dfal.strategies import STRATEGIES, Random, name_of

FULL = "full training set"
"""What trials are called that begin with all labels, whatever their strategy."""
FEW = 1000
"""First labels that are no training set yet."""


def titles(studies: Sequence[Study]) -> list[str]:
    """What tells each study from the others: data set and network, and every setting in which they
    differ.

    A data set that is a file or folder goes by its name alone, unless two have the same.
    """
    settings = [_settings(study) for study in studies]
    places = {one["dataset"] for one in settings}
    names = Counter(Path(place).name for place in places)
    short = {place: Path(place).name if names[Path(place).name] == 1 else place for place in places}
    differ = (
        [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1]
        if settings
        else []
    )
    return [
        ", ".join(
            [short[one["dataset"]], one["model"]]
            + [
                f"{name} {one[name]}"
                for name in differ
                if name not in {"dataset", "model"} and one[name] != ""
            ]
        )
        for one in settings
    ]


def _settings(study: Study) -> dict[str, Any]:
    """The fields of a study's trials and of their training by name, but for strategy and seed, in
    which they differ; of the strategies their K."""
    trial = study.settings
    own = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    kept = {name: own[name] for name in own if name not in {"strategy", "seed", "training"}}
    looked_at = dict.fromkeys(looks_at(curve.trials[0].strategy) for curve in study.curves)
    return (
        kept
        | dataclasses.asdict(trial.training)
        | {"candidates": " and ".join(one for one in looked_at if one)}
    )


def looks_at(strategy: Strategy) -> str:
    """K, the candidates of a strategy: a number, "all", or nothing where it looks at no image."""
    inner = getattr(strategy, "strategy", strategy)
    if inner is not strategy:
        return looks_at(inner)
    settings = dict(
        getattr(strategy, "settings", ())
    )  # of a strategy of the user's own, read without its code
    candidates = getattr(strategy, "candidates", settings.get("candidates", 0))
    return "all" if candidates is None else str(candidates or "")


def is_full(trial: Trial) -> bool:
    """Whether a trial is that of a full training set: it begins with all of its labels, and they
    are many."""
    return trial.first == trial.annotations > FEW


COLUMNS = ["dataset", "model", "strategy", "seed", "annotations", "labelled_data", "accuracy"]
COLUMNS += ["seconds_fit", "seconds_select", "trial", "study", "candidates"]


def write_csv(studies: Sequence[Study], path: Path) -> None:
    """Every measurement as a row: docs/reproduce.md says what the columns are. A trial of several
    studies is written once.

    Raises:
        DfalError: where the file cannot be written.
    """
    with (
        atomic_write(path, "name another with --csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        written: set[str] = set()
        for title, study in zip(titles(studies), studies, strict=True):
            for curve in study.curves:
                for trial, records in zip(curve.trials, curve.records, strict=True):
                    if trial.id not in written:
                        rows.writerows(
                            _rows(FULL if is_full(trial) else curve.name, title, trial, records)
                        )
                    written.add(trial.id)


def _rows(name: str, title: str, trial: Trial, records: Sequence[Record]) -> list[list[object]]:
    rows: list[list[object]] = []
    for record in records:
        measured, costs = record.measurements, record.costs
        counts = [
            int(measured["annotations"]),
            int(measured["labelled_data"]),
            measured["accuracy"],
        ]
        seconds = [f"{costs.get(part, 0):.3f}" for part in ("fit", "select")]
        rows.append(
            [
                *(
                    defused(trial.dataset),
                    defused(trial.model),
                    defused(name),
                    trial.seed,
                    *counts,
                    *seconds,
                ),
                *(trial.id, defused(title), looks_at(trial.strategy)),
            ]
        )
    return rows


MEASURED = {"annotations", "labelled_data", "accuracy"}
"""What every round of a trial is measured by."""
Group = dict[Strategy, dict[int, tuple[Trial, tuple[Record, ...]]]]
"""Strategy → seed → its trial with its rounds."""


def studies(
    store: Store,
    against: str | None = None,
    *,
    named: Callable[[Trial, Strategy], str] = lambda _, strategy: name_of(strategy),
    apart: bool = False,
) -> list[Study]:
    """The studies that a store holds; trials without a finished round are left out.

    Args:
        store: an open one.
        against: the strategy that all others are compared with.
        named: what a strategy is called among trials with these settings.
        apart: whether strategies with different K are studies of their own, and not curves of one
        study whose names say K.

    Raises:
        DfalError: where none of them has a strategy `against`.
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
            if len(records) > len(
                seeds.get(trial.seed, (trial, ()))[1]
            ):  # two texts of one trial are no two seeds
                seeds[trial.seed] = (trial, records)
    found = [
        _study(settings, part, named)
        for settings, group in groups.items()
        for part in (_by_candidates(group) if apart else [group])
    ]
    names = [{curve.name for curve in study.curves} for study in found]
    if against and found and not any(against in one for one in names):
        everyone = ", ".join(dict.fromkeys(curve.name for study in found for curve in study.curves))
        raise DfalError(f"there is no strategy {against} to compare with: there are {everyone}")
    return [
        dataclasses.replace(study, against=against if against in one else None)
        for study, one in zip(found, names, strict=True)
    ]


def _by_candidates(group: Group) -> list[Group]:
    """A group for each K; what looks at no candidates belongs to all of them."""
    numbers = dict.fromkeys(looks_at(strategy) for strategy in group if looks_at(strategy)) or {
        "": None
    }
    return [
        {one: seeds for one, seeds in group.items() if looks_at(one) in {number, ""}}
        for number in numbers
    ]


def _study(settings: Trial, group: Group, named: Callable[[Trial, Strategy], str]) -> Study:
    plain = {strategy: named(settings, strategy) for strategy in group}
    names = _distinct(plain)
    order = {name: place for place, name in enumerate(STRATEGIES)}
    strategies = sorted(
        group,
        key=lambda one: (order.get(plain[one], len(order)), len(looks_at(one)), looks_at(one)),
    )
    return Study(
        settings, tuple(curve_of(names[one], list(group[one].values())) for one in strategies)
    )


def _distinct(plain: dict[Strategy, str]) -> dict[Strategy, str]:
    """Names of which each means one strategy: those given; where two are alike with K behind all of
    them; and where they are alike for another reason, the strategy in full."""
    with_number = {
        one: f"{name} (K = {looks_at(one)})" if looks_at(one) else name
        for one, name in plain.items()
    }
    for names in (plain, with_number):
        if len(set(names.values())) == len(names):
            return names
    count = Counter(with_number.values())
    return {one: name if count[name] == 1 else repr(one) for one, name in with_number.items()}


def curve_of(name: str, trials: Collection[tuple[Trial, tuple[Record, ...]]]) -> Curve:
    """The curve of one strategy's trials with their rounds: of those that are finished, or where
    none is, of all as far as all have come. So a study that goes on seed by seed is as long as the
    seeds that are done."""
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
