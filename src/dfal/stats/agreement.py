"""The interval of a fraction, and the agreement of several annotators."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of the fraction right / n (Wilson 1927); (0, 1) for n = 0."""
    from scipy.stats import binomtest  # a second that importing dfal need not take

    if n == 0:
        return 0.0, 1.0
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


ENOUGH = 20
"""Fewest answers from which a fraction is reported."""


def answers_to_confirm(value: float, n: int, target: float) -> int | None:
    """Return how many more answers raise the lower end of the 95 % CI to a target.

    Args:
        value: the fraction of right answers so far, assumed for the further answers too.
        n: answers so far.
        target: the fraction that the interval's lower end must reach.

    Returns:
        0 if it is reached already with at least `ENOUGH` answers; None if `value` is not above the
        target, so that no number of answers suffices.
    """
    if value < target or target >= 1:
        return None
    # Wilson's lower end is at the target where (value − target)² = z² · target · (1 − target) / n.
    z2 = 1.959963984540054**2
    if value == target:
        return None
    answers = z2 * target * (1 - target) / (value - target) ** 2
    return max(0, ENOUGH - n, math.ceil(answers - n - 1e-9))


def kappa(a: Int64[np.ndarray, "n"], b: Int64[np.ndarray, "n"]) -> float:
    """Return Cohen's kappa: the agreement of two raters beyond the agreement expected by chance.

    It is 1 where both give one and the same class to everything.

    Source:
        Cohen 1960.
    """
    classes = np.union1d(a, b)
    expected = sum(float((a == c).mean() * (b == c).mean()) for c in classes)
    return 1.0 if expected == 1 else float(((a == b).mean() - expected) / (1 - expected))


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha for nominal data: 1 − observed / expected disagreement.

    Args:
        units: for each unit the classes that its annotators gave; negative ones are missing.

    Returns:
        None if no unit has two answers, or all answers are of one class.

    Source:
        Krippendorff 2004.
    """
    values = np.array([value for unit in units for value in unit], dtype=np.int64)
    unit_of = np.repeat(np.arange(len(units)), [len(unit) for unit in units])[values >= 0]
    values = values[values >= 0]
    classes = int(values.max(initial=0)) + 1
    counts = np.bincount(unit_of * classes + values, minlength=len(units) * classes).reshape(
        len(units), classes
    )
    counts = counts[counts.sum(1) > 1]
    each, totals = counts.sum(1), counts.sum(0)
    disagreed = ((each**2 - (counts**2).sum(1)) / (each - 1)).sum()
    expected = each.sum() ** 2 - (totals**2).sum()
    return None if expected == 0 else float(1 - (each.sum() - 1) * disagreed / expected)
