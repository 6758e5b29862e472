"""Learning curves, and which of their differences are real."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dfal.errors import DfalError
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.stats.sampling import evenly_spaced
from dfal.stats.significance import bootstrap, half_width, holm, paired_p
from dfal.strategies import DFAL, BatchDFAL, Random, WithTwins


@dataclass(frozen=True)
class Curve:
    """The accuracy of one strategy at each budget, for each seed.

    Attributes:
        name: of the strategy, and of its K where a study has several.
        trials: one a seed, in the order of the seeds.
        records: the stored rounds of each trial, without the twins.
        annotations: b budgets that all seeds have reached.
        labelled_data: images trained on at each budget, the mean over the seeds.
        accuracy: raw test accuracy as a fraction, s seeds × b budgets.
        finished: whether every trial has reached its last round.
        waiting: seeds that are left out because they are not finished, while others are.
    """

    name: str
    trials: tuple[Trial, ...]
    records: tuple[tuple[Record, ...], ...]
    annotations: Int64[np.ndarray, "b"]
    labelled_data: Float64[np.ndarray, "b"]
    accuracy: Float64[np.ndarray, "s b"]
    finished: bool
    waiting: tuple[int, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Ascending."""
        return [trial.seed for trial in self.trials]

    @property
    def mean(self) -> Float64[np.ndarray, "b"]:
        """Over the seeds."""
        return np.asarray(self.accuracy.mean(0))

    @property
    def spread(self) -> Float64[np.ndarray, "b"]:
        """The standard deviation over the seeds (n − 1 in the denominator); 0 for one seed."""
        return (
            self.accuracy.std(0, ddof=1)
            if len(self.accuracy) > 1
            else np.zeros(len(self.annotations))
        )

    @property
    def area(self) -> Float64[np.ndarray, "s"]:
        """The mean accuracy over each seed's curve (AULC): the area under it by trapezoids, divided
        by its width.

        It is no mean over the budgets: the first and the last count half as much as the others, and
        each as its neighbours are far.
        """
        width = self.annotations[-1] - self.annotations[0]
        return (
            np.trapezoid(self.accuracy, self.annotations, axis=1) / width
            if width
            else self.accuracy[:, 0]
        )

    @property
    def interval(self) -> tuple[Float64[np.ndarray, "b"], Float64[np.ndarray, "b"]]:
        """The 95 % bootstrap interval of the mean at each budget; NaN for one seed."""
        return bootstrap(self.accuracy)

    @property
    def running_maximum(self) -> "Curve":
        """Of each seed the highest accuracy so far: what the paper plots. It only rises, whatever a
        network does."""
        return dataclasses.replace(self, accuracy=np.maximum.accumulate(self.accuracy, axis=1))

    @property
    def seconds(self) -> Float64[np.ndarray, "s"]:
        """What each trial cost, training and choosing, of one thread."""
        costs = (
            [record.costs.get(name, 0.0) for record in records for name in ("fit", "select")]
            for records in self.records
        )
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
        """Random sampling, where it is among the strategies."""
        return next(
            (curve for curve in self.curves if isinstance(curve.trials[0].strategy, Random)), None
        )

    @property
    def seeds(self) -> str:
        """How many there are: of each strategy, where that differs."""
        counts = sorted({len(curve.trials) for curve in self.curves})
        return " to ".join(map(str, counts[:1] + counts[1:][-1:])) + (
            " seed" if counts[-1] == 1 else " seeds"
        )

    @property
    def uneven(self) -> bool:
        """Whether some strategies have other seeds than others."""
        return len({tuple(curve.seeds) for curve in self.curves}) > 1

    @property
    def comparisons(self) -> list["Comparison"]:
        """Each strategy beside its references, by the mean accuracy over its curve, over the seeds
        and budgets that both
        have: beside `against`; or each beside random sampling first, and then those with twins
        beside themselves without. All of them are one family, for which the p-values are
        corrected."""
        gains = [(gain, *pair) for pair in self._pairs if (gain := area_pairs(*pair)) is not None]
        p = holm([paired_p(gain) for gain, _, _ in gains])
        return [
            Comparison(curve, reference, float(gain.mean()), half_width(gain), value, len(gain))
            for (gain, curve, reference), value in zip(gains, p, strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """What is left out, and what is over fewer seeds or budgets than the rest: a sentence
        each."""
        found = [
            f"{curve.name}: seed{'s' * (len(curve.waiting) > 1)} {_few(curve.waiting)} left out,"
            " not finished yet."
            for curve in self.curves
            if curve.waiting
        ]
        if self.uneven:
            each = ", ".join(f"{curve.name} {_few(curve.seeds)}" for curve in self.curves)
            found.append(
                f"The strategies have different seeds: {each}. A difference is over those that both"
                " have."
            )
        last = max(curve.annotations[-1] for curve in self.curves)
        short = [
            f"{curve.name} {curve.annotations[-1]}"
            for curve in self.curves
            if curve.annotations[-1] < last
        ]
        if short:
            found.append(
                f"Not all have come to {last} annotations: {', '.join(short)}. They have no AULC"
                " here, and a difference is over the budgets that both have."
            )
        lonely = [pair for pair in self._pairs if area_pairs(*pair) is None]
        return found + [
            f"{one.name} and {other.name} have no seed in common and are not compared."
            for one, other in lonely
        ]

    @property
    def _pairs(self) -> list[tuple[Curve, Curve]]:
        """Each strategy and what it is compared with, in the order in which they are told: DFAL's
        own comparison with random sampling comes before all others."""
        named = next((other for other in self.curves if other.name == self.against), None)
        reference = named or self.baseline
        pairs = [
            (curve, reference) for curve in self.curves if reference and curve is not reference
        ]
        if named is None:
            pairs.sort(key=lambda pair: not isinstance(pair[0].trials[0].strategy, DFAL))
            pairs += [
                (curve, plain) for curve in self.curves if (plain := self._without_twins(curve))
            ]
        return list({(one.name, other.name): (one, other) for one, other in pairs}.values())

    def area(self, curve: Curve) -> Float64[np.ndarray, "s"] | None:
        """The areas under this curve; None where others went farther, so that it is not over the
        same budgets."""
        return (
            curve.area
            if curve.annotations[-1] == max(one.annotations[-1] for one in self.curves)
            else None
        )

    def _without_twins(self, curve: Curve) -> Curve | None:
        strategy = curve.trials[0].strategy
        plain = strategy.strategy if isinstance(strategy, WithTwins) else strategy
        if isinstance(strategy, DFAL | BatchDFAL) and strategy.twins:
            plain = dataclasses.replace(strategy, twins=False)
        return next(
            (
                other
                for other in self.curves
                if plain != strategy and other.trials[0].strategy == plain
            ),
            None,
        )

    @property
    def measured(self) -> list[int]:
        """The budgets that some strategy has reached."""
        return sorted({budget for curve in self.curves for budget in curve.annotations.tolist()})

    def budgets(self, most: int, at: Sequence[int] = ()) -> list[int]:
        """Those of the budgets `at` that were measured here; where none was, at most so many,
        evenly spread to the last."""
        measured = self.measured
        places = evenly_spaced(len(measured), most, descending=True)
        return [budget for budget in at if budget in measured] or [
            measured[place] for place in sorted(places)
        ]


def refuse_unmeasured(studies: Sequence[Study], at: Sequence[int]) -> None:
    """Raise where there are studies, and none has an accuracy at one of these budgets."""
    measured = sorted({budget for study in studies for budget in study.measured})
    for budget in at:
        if measured and budget not in measured:
            raise DfalError(
                f"no accuracy was measured at {budget} annotations: there are {_few(measured)}"
            )


@dataclass(frozen=True)
class Comparison:
    """How far one curve lies above another, as a mean over budgets and paired seeds, in fractions
    of accuracy.

    Attributes:
        curve: of the strategy.
        reference: of what it is compared with.
        gain: the mean of the difference in AULC.
        half_width: of its 95 % t interval; NaN for one seed.
        p: of a paired t-test, after Holm's correction for all comparisons of the study; NaN for one
        seed.
        seeds: how many pairs there are.
    """

    curve: Curve
    reference: Curve
    gain: float
    half_width: float
    p: float
    seeds: int


def same_seeds(curves: Sequence[Curve]) -> list[Curve]:
    """These curves with the seeds that all of them have."""
    seeds = set.intersection(*(set(one.seeds) for one in curves)) if curves else set()
    found = []
    for one in curves:
        rows = [place for place, seed in enumerate(one.seeds) if seed in seeds]
        trials, records = (
            tuple(one.trials[row] for row in rows),
            tuple(one.records[row] for row in rows),
        )
        found.append(
            dataclasses.replace(one, trials=trials, records=records, accuracy=one.accuracy[rows])
        )
    return found


def common(curves: Sequence[Curve]) -> list[Curve]:
    """These curves with the seeds and budgets that all of them have."""
    shared: list[int] = (
        sorted(set.intersection(*(set(one.annotations.tolist()) for one in curves)))
        if curves
        else []
    )
    found = []
    for one in same_seeds(curves):
        columns = np.isin(one.annotations, shared)
        annotations, labelled_data = one.annotations[columns], one.labelled_data[columns]
        found.append(
            dataclasses.replace(
                one,
                annotations=annotations,
                labelled_data=labelled_data,
                accuracy=one.accuracy[:, columns],
            )
        )
    return found


def area_pairs(one: Curve, other: Curve) -> Float64[np.ndarray, "s"] | None:
    """Differences of areas over the seeds and budgets that both have; None where there are none."""
    left, right = common([one, other])
    return left.area - right.area if len(left.trials) and len(left.annotations) else None


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers if len(numbers) <= 6 else [*numbers[:3], "…", *numbers[-2:]]))
