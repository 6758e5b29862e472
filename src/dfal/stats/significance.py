"""What a few seeds can tell: intervals, paired tests, the correction for making many of them,
ranks, and how many more seeds it would take.

Two intervals are used. Student's t is for means and differences: with five seeds it holds what it
should. The bootstrap is for what has no formula, such as the annotations that a target needs. It
draws seeds with replacement, so that with five it never looks beyond the worst and best of them: an
interval called 95 % holds the mean of normal values 83 times in 100 (a test counts them), and 93
times with thirty.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


def half_width(values: Float64[np.ndarray, "s"]) -> float:
    """Half the width of the mean's 95 % t interval; NaN for one value."""
    from scipy.stats import t  # a second that importing dfal need not take

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def paired_p(differences: Float64[np.ndarray, "s"]) -> float:
    """The two-sided p-value of a paired t-test: how likely such a mean difference is if there is
    none. NaN for one pair, 1 where all differences are 0."""
    from scipy.stats import t

    if len(differences) < 2:
        return float("nan")
    mean, spread = differences.mean(), differences.std(ddof=1)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / spread * np.sqrt(len(differences)), len(differences) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values for a family of tests, so that the chance of any false alarm among them stays what
    it says (Holm 1979).

    NaN stays NaN and does not count.
    """
    order = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    adjusted = [float("nan")] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted


Rows = Int64[np.ndarray, "r s"]


def resamples(seeds: int, most: int = 5000) -> Rows:
    """Rows of the bootstrap: which seeds are drawn, with replacement. All possibilities where they
    are few (up to five seeds), so that the interval has no chance in it; otherwise `most` of them,
    always the same."""
    if seeds**seeds <= most:
        return np.array(
            list(itertools.product(range(seeds), repeat=seeds)), dtype=np.int64
        ).reshape(-1, seeds)
    return np.random.default_rng(0).integers(seeds, size=(most, seeds))


def bootstrap(
    values: Float64[np.ndarray, "s *b"],
) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
    """The 95 % percentile interval of the mean over seeds, for each column; NaN for one seed."""
    if len(values) < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing.copy()
    return _middle(values[resamples(len(values))].mean(1))


def _middle(
    values: Float64[np.ndarray, "r *b"],
) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
    """The 2.5 % and 97.5 % quantiles, of values that occur, so that infinity may be one."""
    ordered = np.sort(values, axis=0)
    last = len(values) - 1
    return np.asarray(ordered[int(0.025 * last)]), np.asarray(ordered[last - int(0.025 * last)])


@dataclass(frozen=True)
class Needed:
    """How many annotations a target needs. Infinity is what no budget that was measured reaches:
    right-censored.

    Attributes:
        annotations: where the mean curve first reaches the target.
        low, high: the 95 % bootstrap interval over seeds.
    """

    annotations: float
    low: float
    high: float


def annotations_to_target(
    budgets: Int64[np.ndarray, "b"], accuracy: Float64[np.ndarray, "s b"], target: float
) -> Needed:
    """The fewest annotations at which the mean over seeds is at least `target`."""
    first = float(_crossings(budgets, accuracy.mean(0)[None], target)[0])
    if len(accuracy) < 2:
        return Needed(first, np.nan, np.nan)
    low, high = _middle(_crossings(budgets, accuracy[resamples(len(accuracy))].mean(1), target))
    return Needed(first, float(low), float(high))


def annotations_saved(
    ours: tuple[Int64[np.ndarray, "b"], Float64[np.ndarray, "s b"]],
    theirs: tuple[Int64[np.ndarray, "c"], Float64[np.ndarray, "s c"]],
    target: float,
) -> Needed:
    """How many annotations fewer than `theirs` the target needs with `ours`, over paired seeds:
    budgets and accuracies of both.

    Where `theirs` does not reach the target it counts as reaching it at its last budget: a lower
    bound of what is saved. Where `ours` does not, it counts as reaching it at its last budget, or
    where `theirs` does if that is later: nothing is saved.
    """
    seeds = len(ours[1])

    def difference(rows: Rows) -> Float64[np.ndarray, "r"]:
        here, there = (
            _crossings(budgets, accuracy[rows].mean(1), target)
            for budgets, accuracy in (ours, theirs)
        )
        there = np.minimum(there, theirs[0][-1])
        return np.asarray(there - np.where(np.isinf(here), np.maximum(there, ours[0][-1]), here))

    found = float(difference(np.arange(seeds)[None])[0])
    low, high = (np.nan, np.nan) if seeds < 2 else map(float, _middle(difference(resamples(seeds))))
    return Needed(found, low, high)


def _crossings(
    budgets: Int64[np.ndarray, "b"], means: Float64[np.ndarray, "r b"], target: float
) -> Float64[np.ndarray, "r"]:
    """Where each of these curves first reaches the target; infinity where it does not."""
    reached = means >= target
    first = np.full(len(means), np.inf)
    first[reached.any(1)] = budgets[reached.argmax(1)[reached.any(1)]]
    return first


def seeds_needed(differences: Float64[np.ndarray, "s"], power: float = 0.8) -> float:
    """How many paired seeds a t-test at 5 % would need to see the difference that was found, at
    that chance of seeing it.

    Infinity where the difference is 0, NaN for one pair. With few pairs the estimate is rough, as
    the spread is.
    """
    from scipy.stats import nct, t

    if len(differences) < 2:
        return float("nan")
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    if mean == 0:
        return float("inf")
    if spread == 0:
        return 2.0

    def seen(n: float) -> bool:
        edge, shift = t.ppf(0.975, n - 1), mean / spread * np.sqrt(n)
        return bool(nct.sf(edge, n - 1, shift) + nct.cdf(-edge, n - 1, shift) >= power)

    return _smallest(seen)


def _smallest(enough: Callable[[float], bool], most: int = 100_000) -> float:
    """The smallest whole number from 2 on that is enough, by bisection; infinity beyond `most`."""
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
    """Ranks of k strategies over n blocks (settings, or seeds of one), 1 the best.

    Attributes:
        mean: the mean rank of each strategy.
        p: of Friedman's test that all are alike; NaN with fewer than 3 strategies or 2 blocks.
        critical: Nemenyi's critical difference at 5 %: mean ranks closer than this cannot be told
        apart.
    """

    mean: Float64[np.ndarray, "k"]
    p: float
    critical: float


def ranks(scores: Float64[np.ndarray, "n k"]) -> Ranks:
    """Friedman's test and Nemenyi's critical difference (Demšar 2006); higher scores are better,
    ties share their ranks."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    blocks, strategies = scores.shape
    each = rankdata(-scores, axis=1)
    p = float("nan")
    if blocks > 1 and strategies > 2:
        p = float(friedmanchisquare(*scores.T).pvalue) if np.ptp(each) else 1.0
    q = (
        studentized_range.ppf(0.95, strategies, np.inf) / np.sqrt(2)
        if strategies > 1
        else float("nan")
    )
    return Ranks(each.mean(0), p, float(q * np.sqrt(strategies * (strategies + 1) / (6 * blocks))))
