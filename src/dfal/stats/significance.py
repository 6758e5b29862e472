"""Intervals, paired tests, Holm's correction, ranks and sample sizes for a few seeds.

Two intervals are used. Student's t is for means and differences; its coverage is right with five
seeds too. The bootstrap is for statistics without a formula, such as the annotations to a target.
It draws seeds with replacement, so that an interval of five never reaches beyond the worst and the
best of them: its coverage of the mean of normal values is 83 % where it says 95 % (a test counts
it), and 93 % with thirty seeds.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


def half_width(values: Float64[np.ndarray, "s"]) -> float:
    """Return half the width of the 95 % t interval of the mean over s seeds; NaN for one."""
    from scipy.stats import sem, t  # a second that importing dfal need not take

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * sem(values))


def paired_p(differences: Float64[np.ndarray, "s"]) -> float:
    """Return the two-sided p-value of a paired t-test.

    Args:
        differences: one for each of s paired seeds.

    Returns:
        NaN for one pair, 1 where all differences are 0, 0 where they are equal otherwise.
    """
    from scipy.stats import sem, t  # `ttest_1samp` warns of nearly equal differences

    if len(differences) < 2:
        return float("nan")
    mean, error = abs(float(differences.mean())), float(sem(differences))
    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(mean / error, len(differences) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests after Holm's correction.

    NaN stays NaN and does not count as a test.

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    adjusted = [float("nan")] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted


Resamples = Int64[np.ndarray, "r s"]
"""r draws of s seeds, as indices of seeds."""


def resamples(seeds: int, most: int = 5000) -> Resamples:
    """Return the draws of the bootstrap, with replacement.

    They are all possible draws where these are at most `most` (up to five seeds), so that the
    interval is exact; otherwise `most` random ones, always the same.
    """
    if seeds**seeds <= most:
        return np.array(
            list(itertools.product(range(seeds), repeat=seeds)), dtype=np.int64
        ).reshape(-1, seeds)
    return np.random.default_rng(0).integers(seeds, size=(most, seeds))


def bootstrap(
    values: Float64[np.ndarray, "s *b"],
) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
    """Return the 95 % percentile interval of the mean over s seeds, for each of b columns.

    Returns:
        Lower and upper ends; NaN for one seed.
    """
    if len(values) < 2:
        missing = np.full(values.shape[1:], np.nan)
        return missing, missing.copy()
    return _percentiles(values[resamples(len(values))].mean(1))


def _percentiles(
    values: Float64[np.ndarray, "r *b"],
) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
    """Return the 2.5 % and 97.5 % quantiles over r draws.

    They are values that occur, without interpolation, so that infinity may be one.
    """
    ordered = np.sort(values, axis=0)
    last = len(values) - 1
    return np.asarray(ordered[int(0.025 * last)]), np.asarray(ordered[last - int(0.025 * last)])


@dataclass(frozen=True)
class Needed:
    """A number of annotations with its interval; infinity if no measured budget suffices.

    Attributes:
        annotations: of the mean curve.
        low, high: the 95 % bootstrap interval over seeds.
    """

    annotations: float
    low: float
    high: float


def annotations_to_target(
    budgets: Int64[np.ndarray, "b"], accuracy: Float64[np.ndarray, "s b"], target: float
) -> Needed:
    """Return the fewest annotations at which the mean accuracy over seeds reaches a target.

    Args:
        budgets: b numbers of annotations.
        accuracy: fractions, s seeds × b budgets.
        target: an accuracy as a fraction.
    """
    first = float(_crossings(budgets, accuracy.mean(0)[None], target)[0])
    if len(accuracy) < 2:
        return Needed(first, np.nan, np.nan)
    low, high = _percentiles(
        _crossings(budgets, accuracy[resamples(len(accuracy))].mean(1), target)
    )
    return Needed(first, float(low), float(high))


def annotations_saved(
    ours: tuple[Int64[np.ndarray, "b"], Float64[np.ndarray, "s b"]],
    theirs: tuple[Int64[np.ndarray, "c"], Float64[np.ndarray, "s c"]],
    target: float,
) -> Needed:
    """Return how many annotations fewer than `theirs` a target needs with `ours`.

    Where `theirs` does not reach the target it counts as reaching it at its last budget: a lower
    bound of what is saved. Where `ours` does not, it counts as reaching it at its last budget, or
    where `theirs` does if that is later: nothing is saved.

    Args:
        ours: budgets, and accuracies of s seeds at these budgets.
        theirs: other budgets, and accuracies of the same seeds at these.
        target: an accuracy as a fraction.
    """
    seeds = len(ours[1])

    def saved(rows: Resamples) -> Float64[np.ndarray, "r"]:
        here, there = (
            _crossings(budgets, accuracy[rows].mean(1), target)
            for budgets, accuracy in (ours, theirs)
        )
        there = np.minimum(there, theirs[0][-1])
        return np.asarray(there - np.where(np.isinf(here), np.maximum(there, ours[0][-1]), here))

    low, high = (np.nan, np.nan) if seeds < 2 else map(float, _percentiles(saved(resamples(seeds))))
    return Needed(float(saved(np.arange(seeds)[None])[0]), low, high)


def _crossings(
    budgets: Int64[np.ndarray, "b"], means: Float64[np.ndarray, "r b"], target: float
) -> Float64[np.ndarray, "r"]:
    """Return the budget at which each of r curves first reaches a target; infinity if none."""
    reached = means >= target
    first = np.full(len(means), np.inf)
    first[reached.any(1)] = budgets[reached.argmax(1)[reached.any(1)]]
    return first


def seeds_needed(differences: Float64[np.ndarray, "s"], power: float = 0.8) -> float:
    """Estimate how many paired seeds a t-test at 5 % needs to detect the observed difference.

    Args:
        differences: one for each of s paired seeds; with few of them the estimate is rough.
        power: the probability of detecting it.

    Returns:
        Infinity where the mean difference is 0, NaN for one pair.
    """
    from scipy.stats import nct, t

    if len(differences) < 2:
        return float("nan")
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    if mean == 0:
        return float("inf")
    if spread == 0:
        return 2.0

    def detected(n: float) -> bool:
        edge, shift = t.ppf(0.975, n - 1), mean / spread * np.sqrt(n)
        return bool(nct.sf(edge, n - 1, shift) + nct.cdf(-edge, n - 1, shift) >= power)

    return _smallest(detected)


def _smallest(enough: Callable[[float], bool], most: int = 100_000) -> float:
    """Return the smallest whole number from 2 on that is enough, by bisection; at most `most`."""
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > most:
            return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(high)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of k strategies over n blocks (settings, or seeds of one), 1 the best.

    Attributes:
        mean: the mean rank of each strategy.
        p: of Friedman's test that all are alike; NaN with fewer than 3 strategies or 2 blocks.
        critical: Nemenyi's critical difference at 5 %: mean ranks closer than this do not differ
            significantly.
    """

    mean: Float64[np.ndarray, "k"]
    p: float
    critical: float


def ranks(scores: Float64[np.ndarray, "n k"]) -> Ranks:
    """Rank strategies by Friedman's test and Nemenyi's critical difference.

    Args:
        scores: n blocks × k strategies; higher is better, ties share their ranks.

    Source:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    blocks, strategies = scores.shape
    block_ranks = rankdata(-scores, axis=1)
    p = float("nan")
    if blocks > 1 and strategies > 2:
        p = float(friedmanchisquare(*scores.T).pvalue) if np.ptp(block_ranks) else 1.0
    q = (
        studentized_range.ppf(0.95, strategies, np.inf) / np.sqrt(2)
        if strategies > 1
        else float("nan")
    )
    critical = float(q * np.sqrt(strategies * (strategies + 1) / (6 * blocks)))
    return Ranks(block_ranks.mean(0), p, critical)
