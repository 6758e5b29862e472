"""From a store to learning curves and their summary: what the command line prints and the report draws."""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dfal.statistics import bootstrap, half_width, holm, paired_p
from dfal.store import Record, Store
from dfal.strategies import DFAL, NAMED, BatchDFAL, Random, WithTwins, name_of
from dfal.trial import Trial, is_kind
from dfal.types import DfalError


@dataclass(frozen=True)
class Curve:
    """The accuracy of one strategy at each budget, for each seed.

    Attributes:
        name: of the strategy.
        trials: one a seed, in the order of the seeds.
        records: the stored rounds of each trial, without the twins.
        annotations: b budgets that all seeds have reached.
        labelled_data: images trained on at each budget, the mean over the seeds.
        accuracy: raw test accuracy as a fraction, s seeds × b budgets.
        finished: whether every trial has reached its last round.
    """

    name: str
    trials: tuple[Trial, ...]
    records: tuple[tuple[Record, ...], ...]
    annotations: Int64[np.ndarray, "b"]
    labelled_data: Float64[np.ndarray, "b"]
    accuracy: Float64[np.ndarray, "s b"]
    finished: bool

    @property
    def mean(self) -> Float64[np.ndarray, "b"]:
        """Over the seeds."""
        return np.asarray(self.accuracy.mean(0))

    @property
    def spread(self) -> Float64[np.ndarray, "b"]:
        """The standard deviation over the seeds (n − 1 in the denominator); 0 for one seed."""
        return self.accuracy.std(0, ddof=1) if len(self.accuracy) > 1 else np.zeros(len(self.annotations))

    @property
    def area(self) -> Float64[np.ndarray, "s"]:
        """The area under each seed's curve by trapezoids, divided by the width: a mean accuracy over the budgets."""
        width = self.annotations[-1] - self.annotations[0]
        return np.trapezoid(self.accuracy, self.annotations, axis=1) / width if width else self.accuracy[:, 0]

    @property
    def interval(self) -> tuple[Float64[np.ndarray, "b"], Float64[np.ndarray, "b"]]:
        """The 95 % bootstrap interval of the mean at each budget; NaN for one seed."""
        return bootstrap(self.accuracy)

    @property
    def running_maximum(self) -> Float64[np.ndarray, "b"]:
        """The mean over seeds of the highest accuracy so far: what the paper plots. It only rises, whatever a network does."""
        return np.asarray(np.maximum.accumulate(self.accuracy, axis=1).mean(0))

    @property
    def seconds(self) -> Float64[np.ndarray, "s"]:
        """What each trial cost, training and choosing, of one thread."""
        costs = ([record.costs.get(name, 0.0) for record in records for name in ("fit", "select")] for records in self.records)
        return np.array([sum(one) for one in costs])

    def at(self, budget: int) -> Float64[np.ndarray, "s"] | None:
        """The accuracies of all seeds at a budget; None where it was not measured."""
        place = np.flatnonzero(self.annotations == budget)
        return self.accuracy[:, place[0]] if len(place) else None

    def needed(self, target: float) -> int | None:
        """The fewest annotations at which the mean accuracy is at least `target`."""
        reached = np.flatnonzero(self.mean >= target)
        return int(self.annotations[reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class Study:
    """The curves of trials that differ in strategy and seed only.

    Attributes:
        settings: what they have in common, as a trial (its strategy and seed mean nothing).
        curves: one a strategy.
        against: the strategy that all others are compared with; None for each with its own.
    """

    settings: Trial
    curves: tuple[Curve, ...]
    against: str | None = None

    @property
    def baseline(self) -> Curve | None:
        """Random choice, where it is among the strategies."""
        return next((curve for curve in self.curves if isinstance(curve.trials[0].strategy, Random)), None)

    @property
    def comparisons(self) -> list["Comparison"]:
        """Each strategy beside its reference, by the area under its curve: beside `against`; or with twins beside without,
        others beside random choice. All of them are one family, for which the p-values are corrected."""
        pairs = [(curve, reference) for curve in self.curves if (reference := self._reference(curve))]
        gains = [curve.area - reference.area for curve, reference in pairs]
        p = holm([paired_p(gain) for gain in gains])
        return [
            Comparison(curve, reference, float(gain.mean()), half_width(gain), value)
            for (curve, reference), gain, value in zip(pairs, gains, p, strict=True)
        ]

    def _reference(self, curve: Curve) -> Curve | None:
        named = next((other for other in self.curves if other.name == self.against), None)
        reference = named or self._without_twins(curve) or self.baseline
        if reference is None or reference is curve:
            return None
        seeds = [[trial.seed for trial in one.trials] for one in (curve, reference)]
        paired = seeds[0] == seeds[1] and np.array_equal(curve.annotations, reference.annotations)
        return reference if paired else None

    def _without_twins(self, curve: Curve) -> Curve | None:
        strategy = curve.trials[0].strategy
        plain = strategy.strategy if isinstance(strategy, WithTwins) else strategy
        if isinstance(strategy, DFAL | BatchDFAL) and strategy.twins:
            plain = dataclasses.replace(strategy, twins=False)
        return next((other for other in self.curves if plain != strategy and other.trials[0].strategy == plain), None)

    def budgets(self, most: int, at: Sequence[int] = ()) -> list[int]:
        """The budgets `at`, or where none is given at most so many, evenly spread with the last among them.

        Raises:
            DfalError: for one that some strategy has not reached.
        """
        shared = sorted(set.intersection(*(set(curve.annotations.tolist()) for curve in self.curves)))
        for budget in at:
            if budget not in shared:
                raise DfalError(
                    f"no accuracy was measured at {budget} annotations for every strategy: there are {_few(shared)}"
                )
        picked = np.linspace(len(shared) - 1, 0, min(most, len(shared))).round().astype(int)
        return list(at) or [shared[i] for i in sorted(set(picked.tolist()))]


@dataclass(frozen=True)
class Comparison:
    """How far one curve lies above another, as a mean over budgets and paired seeds, in fractions of accuracy.

    Attributes:
        curve: of the strategy.
        reference: of what it is compared with.
        gain: the mean of the difference of areas.
        half_width: of its 95 % t interval; NaN for one seed.
        p: of a paired t-test, after Holm's correction for all comparisons of the study; NaN for one seed.
    """

    curve: Curve
    reference: Curve
    gain: float
    half_width: float
    p: float


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers if len(numbers) <= 6 else [*numbers[:3], "…", *numbers[-2:]]))


def titles(studies: Sequence[Study]) -> list[str]:
    """What tells each study from the others: data set and network, and every setting in which they differ."""
    settings = [_settings(study.settings) for study in studies]
    differ = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1] if settings else []
    return [
        ", ".join(
            [one["dataset"], one["model"], *(f"{name} {one[name]}" for name in differ if name not in {"dataset", "model"})]
        )
        for one in settings
    ]


def _settings(trial: Trial) -> dict[str, Any]:
    """The fields of a trial and of its training by name, but for strategy and seed, in which a study's trials differ."""
    own = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    return {name: own[name] for name in own if name not in {"strategy", "seed", "training"}} | dataclasses.asdict(
        trial.training
    )


COLUMNS = ["dataset", "model", "strategy", "seed", "annotations", "labelled_data", "accuracy"]
COLUMNS += ["seconds_fit", "seconds_select", "trial", "study"]


def write_csv(studies: Sequence[Study], path: Path) -> None:
    """Every measurement as a row: accuracy as a fraction of the test set, seconds of one thread.

    Raises:
        DfalError: where the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for title, study in zip(titles(studies), studies, strict=True):
                for curve in study.curves:
                    for trial, records in zip(curve.trials, curve.records, strict=True):
                        for record in records:
                            measured, costs = record.measurements, record.costs
                            counts = [int(measured["annotations"]), int(measured["labelled_data"]), measured["accuracy"]]
                            seconds = [f"{costs.get(name, 0):.3f}" for name in ("fit", "select")]
                            rows.writerow(
                                [trial.dataset, trial.model, curve.name, trial.seed, *counts, *seconds, trial.id, title]
                            )
    except OSError as error:
        raise DfalError(f"{path} cannot be written ({error.strerror}): name another file") from None


def studies(store: Store, against: str | None = None) -> list[Study]:
    """The studies that a store holds; trials without a finished round are left out.

    Raises:
        DfalError: where one of them has no strategy `against`.
    """
    groups: dict[Trial, dict[str, list[tuple[Trial, tuple[Record, ...]]]]] = {}
    for stored, text in store.trials().items():
        if not is_kind(Trial, text):
            continue
        trial = Trial.from_json(text)
        if records := tuple(store.records(stored, twins=False)):
            group = groups.setdefault(dataclasses.replace(trial, strategy=Random(), seed=0), {})
            group.setdefault(name_of(trial.strategy), []).append((trial, records))
    order = {name: place for place, name in enumerate(NAMED)}
    found = [
        Study(
            settings,
            tuple(curve_of(name, group[name]) for name in sorted(group, key=lambda name: order.get(name, len(order)))),
            against,
        )
        for settings, group in groups.items()
    ]
    for study in found:
        names = [curve.name for curve in study.curves]
        if against and against not in names:
            raise DfalError(f"there is no strategy {against} to compare with: there are {', '.join(names)}")
    return found


def curve_of(name: str, trials: Sequence[tuple[Trial, tuple[Record, ...]]]) -> Curve:
    """The curve of one strategy's trials with their rounds, as far as all of them have come."""
    trials = sorted(trials, key=lambda pair: pair[0].seed)
    rounds = min(len(records) for _, records in trials)

    def table(what: str) -> Float64[np.ndarray, "s b"]:
        return np.array([[record.measurements[what] for record in records[:rounds]] for _, records in trials])

    return Curve(
        name,
        tuple(trial for trial, _ in trials),
        tuple(records for _, records in trials),
        table("annotations")[0].astype(np.int64),
        table("labelled_data").mean(0),
        table("accuracy"),
        all(records[-1].last for _, records in trials),
    )
