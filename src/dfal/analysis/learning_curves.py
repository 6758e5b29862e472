"""Learning curves and the comparisons between them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64

from dfal.analysis.rows import Kind, data_frame, trial_rows
from dfal.errors import DfalError
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.stats.sampling import evenly_spaced
from dfal.stats.significance import bootstrap, half_width, holm, paired_p
from dfal.strategies import DFAL, BatchDFAL, Random, WithTwins

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Curve:
    """The accuracy of one strategy at each budget, for each seed.

    Attributes:
        name: the strategy's, with its K where a study has several.
        trials: one for each seed, in the order of the seeds.
        records: the stored rounds of each trial, without adversarial twins.
        annotations: b budgets that all seeds have reached.
        labelled_data: images trained on at each budget, the mean over the seeds.
        accuracy: raw test accuracy as a fraction, s seeds × b budgets.
        finished: whether every trial has reached its last round.
        waiting: seeds that are left out as they are not finished, while others are.
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
        """Return the seeds in ascending order."""
        return [trial.seed for trial in self.trials]

    @property
    def mean(self) -> Float64[np.ndarray, "b"]:
        """Return the mean accuracy over the seeds at each budget."""
        return np.asarray(self.accuracy.mean(0))

    @property
    def spread(self) -> Float64[np.ndarray, "b"]:
        """Return the standard deviation over the seeds at each budget; 0 for one seed."""
        return (
            self.accuracy.std(0, ddof=1)
            if len(self.accuracy) > 1
            else np.zeros(len(self.annotations))
        )

    @property
    def aulc(self) -> Float64[np.ndarray, "s"]:
        """Return the mean accuracy over the curve of each seed (AULC).

        It is the area under the curve by trapezoids, divided by its width, and not the mean over
        the budgets: each budget counts by the distance of its neighbours, the first and the last
        half.
        """
        width = self.annotations[-1] - self.annotations[0]
        return (
            np.trapezoid(self.accuracy, self.annotations, axis=1) / width
            if width
            else self.accuracy[:, 0]
        )

    @property
    def interval(self) -> tuple[Float64[np.ndarray, "b"], Float64[np.ndarray, "b"]]:
        """Return the 95 % bootstrap interval of the mean at each budget; NaN for one seed."""
        return bootstrap(self.accuracy)

    @property
    def running_maximum(self) -> "Curve":
        """Return the curve of each seed's highest accuracy so far, which the paper plots.

        It never falls, whatever the networks do.
        """
        return dataclasses.replace(self, accuracy=np.maximum.accumulate(self.accuracy, axis=1))

    @property
    def seconds(self) -> Float64[np.ndarray, "s"]:
        """Return the seconds of one thread that each trial spent on training and selection."""
        costs = (
            [record.costs.get(name, 0.0) for record in records for name in ("fit", "select")]
            for records in self.records
        )
        return np.array([sum(seconds) for seconds in costs])

    def at(self, budget: int) -> Float64[np.ndarray, "s"] | None:
        """Return the accuracies of all seeds at a budget; None where it was not measured."""
        columns = np.flatnonzero(self.annotations == budget)
        return self.accuracy[:, columns[0]] if len(columns) else None

    def needed(self, target: float) -> int | None:
        """Return the fewest annotations whose mean accuracy is at least `target`, or None."""
        reached = np.flatnonzero(self.mean >= target)
        return int(self.annotations[reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class Study:
    """The curves of trials that differ in strategy and seed only.

    Attributes:
        settings: what they have in common, as a trial whose strategy and seed mean nothing.
        curves: one for each strategy.
        against: the strategy that all others are compared with; None for the usual references.
        targets: accuracies as fractions, for each of which the tables have the labels to reach it.
    """

    settings: Trial
    curves: tuple[Curve, ...]
    against: str | None = None
    targets: tuple[float, ...] = ()

    @property
    def baseline(self) -> Curve | None:
        """Return the curve of random sampling, if there is one."""
        return next(
            (curve for curve in self.curves if isinstance(curve.trials[0].strategy, Random)), None
        )

    @property
    def seeds(self) -> str:
        """Return the number of seeds in words, as a range where strategies differ."""
        counts = sorted({len(curve.trials) for curve in self.curves})
        return " to ".join(map(str, counts[:1] + counts[1:][-1:])) + (
            " seed" if counts[-1] == 1 else " seeds"
        )

    @property
    def uneven(self) -> bool:
        """Return whether some strategies have other seeds than others."""
        return len({tuple(curve.seeds) for curve in self.curves}) > 1

    @property
    def comparisons(self) -> list["Comparison"]:
        """Return the differences in AULC between each strategy and its references.

        Each strategy is compared with `against`; or with random sampling, and then those that train
        on adversarial twins with themselves without. A comparison is over the seeds and budgets
        that both have.
        """
        return self._compare(aulc_differences)

    @property
    def final_comparisons(self) -> list["Comparison"]:
        """Return the same comparisons, of the accuracy at the last budget that both have."""
        return self._compare(final_differences)

    def _compare(self, differences: "Differences") -> list["Comparison"]:
        """Test all pairs as one family, for which the p-values are corrected."""
        paired = [
            (curve, reference, values)
            for curve, reference in self._pairs
            if (values := differences(curve, reference)) is not None
        ]
        p_values = holm([paired_p(values) for _, _, values in paired])
        return [
            Comparison(curve, reference, values, p)
            for (curve, reference, values), p in zip(paired, p_values, strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """Return a sentence for everything that is left out or has fewer seeds or budgets."""
        waiting = "; ".join(
            f"{curve.name}, seed{'s' * (len(curve.waiting) > 1)} {_few(curve.waiting)}"
            for curve in self.curves
            if curve.waiting
        )
        sentences = [f"Left out, as they are not finished yet: {waiting}."] if waiting else []
        if self.uneven:
            seeds = ", ".join(f"{curve.name} {_few(curve.seeds)}" for curve in self.curves)
            sentences.append(
                f"The strategies have different seeds: {seeds}. A difference is over those that"
                " both have."
            )
        last = max(curve.annotations[-1] for curve in self.curves)
        short = [
            f"{curve.name} {curve.annotations[-1]}"
            for curve in self.curves
            if curve.annotations[-1] < last
        ]
        if short:
            sentences.append(
                f"Not all have reached {last} annotations: {', '.join(short)}. They have no AULC"
                " here, and a difference is over the budgets that both have."
            )
        return sentences + [
            f"{curve.name} and {reference.name} have no seed in common and are not compared."
            for curve, reference in self._pairs
            if aulc_differences(curve, reference) is None
        ]

    @property
    def _pairs(self) -> list[tuple[Curve, Curve]]:
        """Return each strategy with what it is compared with, DFAL and random sampling first."""
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
        return list(
            {
                (curve.name, reference.name): (curve, reference) for curve, reference in pairs
            }.values()
        )

    def aulc(self, curve: Curve) -> Float64[np.ndarray, "s"] | None:
        """Return a curve's AULC for each seed; None where other curves are longer."""
        last = max(other.annotations[-1] for other in self.curves)
        return curve.aulc if curve.annotations[-1] == last else None

    def to_pandas(self, kind: Kind = "measurements") -> "pandas.DataFrame":
        """Return a data frame with a row for each measurement, or for each queried image.

        Args:
            kind: "measurements", or "queries" for the queried images. docs/store.md describes the
                columns of both.

        Raises:
            DfalError: where pandas is not installed.
        """
        rows = (
            row
            for curve in self.curves
            for trial, records in zip(curve.trials, curve.records, strict=True)
            for row in trial_rows(curve.name, trial, records, kind)
        )
        return data_frame(rows, kind)

    def _without_twins(self, curve: Curve) -> Curve | None:
        """Return the curve of the same strategy without adversarial twins, if there is one."""
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
        """Return the budgets that some strategy has reached, in ascending order."""
        return sorted({budget for curve in self.curves for budget in curve.annotations.tolist()})

    def budgets(self, most: int, at: Sequence[int] = ()) -> list[int]:
        """Return the budgets to show.

        Args:
            most: how many budgets at most, evenly spread to the last, where none of `at` was
                measured.
            at: the budgets that are wanted.
        """
        measured = self.measured
        places = evenly_spaced(len(measured), most, descending=True)
        return [budget for budget in at if budget in measured] or [
            measured[place] for place in sorted(places)
        ]


def refuse_unmeasured(studies: Sequence[Study], at: Sequence[int]) -> None:
    """Check that some study has an accuracy at each of these budgets, if there are studies.

    Raises:
        DfalError: if none has.
    """
    measured = sorted({budget for study in studies for budget in study.measured})
    for budget in at:
        if measured and budget not in measured:
            raise DfalError(
                f"no accuracy was measured at {budget} annotations: there are {_few(measured)}"
            )


@dataclass(frozen=True)
class Comparison:
    """A difference between two strategies over paired seeds, in fractions of accuracy.

    Attributes:
        curve: the strategy's.
        reference: the curve that it is compared with.
        differences: curve − reference for each of s paired seeds.
        p: of a paired t-test, after Holm's correction for all comparisons of the study; NaN for one
            seed.
    """

    curve: Curve
    reference: Curve
    differences: Float64[np.ndarray, "s"]
    p: float

    @property
    def seeds(self) -> int:
        """Return the number of paired seeds."""
        return len(self.differences)

    @property
    def gain(self) -> float:
        """Return the mean difference."""
        return float(self.differences.mean())

    @property
    def half_width(self) -> float:
        """Return half the width of the 95 % t interval of the mean difference; NaN for one seed."""
        return half_width(self.differences)

    @property
    def significant(self) -> bool:
        """Return whether p < 0.05; never for one seed."""
        return self.p < SIGNIFICANT


SIGNIFICANT = 0.05
"""Level of all tests."""


def same_seeds(curves: Sequence[Curve]) -> list[Curve]:
    """Return these curves with the seeds that all of them have."""
    seeds = set.intersection(*(set(curve.seeds) for curve in curves)) if curves else set()
    return [
        _rows(curve, [row for row, seed in enumerate(curve.seeds) if seed in seeds])
        for curve in curves
    ]


def _rows(curve: Curve, rows: Sequence[int]) -> Curve:
    """Return a curve with these rows of its seeds."""
    return dataclasses.replace(
        curve,
        trials=tuple(curve.trials[row] for row in rows),
        records=tuple(curve.records[row] for row in rows),
        accuracy=curve.accuracy[rows],
    )


def common(curves: Sequence[Curve]) -> list[Curve]:
    """Return these curves with the seeds and budgets that all of them have."""
    budgets = [set(curve.annotations.tolist()) for curve in curves]
    shared: list[int] = sorted(set.intersection(*budgets)) if curves else []
    return [_columns(curve, np.isin(curve.annotations, shared)) for curve in same_seeds(curves)]


def _columns(curve: Curve, columns: Bool[np.ndarray, "b"]) -> Curve:
    """Return a curve with these columns of its budgets."""
    return dataclasses.replace(
        curve,
        annotations=curve.annotations[columns],
        labelled_data=curve.labelled_data[columns],
        accuracy=curve.accuracy[:, columns],
    )


Differences = Callable[[Curve, Curve], Float64[np.ndarray, "s"] | None]
"""From two curves to a difference for each paired seed; None where there is no pair."""


def aulc_differences(curve: Curve, reference: Curve) -> Float64[np.ndarray, "s"] | None:
    """Return the differences in AULC over the seeds and budgets that both have; None if none."""
    ours, theirs = common([curve, reference])
    return ours.aulc - theirs.aulc if ours.accuracy.size else None


def final_differences(curve: Curve, reference: Curve) -> Float64[np.ndarray, "s"] | None:
    """Return the differences at the last budget, of seeds and budgets of both; None if none."""
    ours, theirs = common([curve, reference])
    return ours.accuracy[:, -1] - theirs.accuracy[:, -1] if ours.accuracy.size else None


def _few(numbers: Sequence[int]) -> str:
    """Return numbers as text, those in the middle left out where they are many."""
    return ", ".join(map(str, numbers if len(numbers) <= 6 else [*numbers[:3], "…", *numbers[-2:]]))
