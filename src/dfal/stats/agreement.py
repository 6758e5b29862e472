"""What a few answers can tell: the interval of a fraction, and how far those who answer agree."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a fraction (Wilson 1927); (0, 1) where nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959963984540054, right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    width = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - width), min(1.0, middle + width)


ENOUGH = 20
"""Answers below which a fraction of them tells too little to rest a claim on."""


def answers_to_confirm(value: float, n: int, target: float) -> int | None:
    """Return how many more answers put the lower end of the 95 % interval at a target.

    Args:
        value: the fraction that was right of the first `n`; the next are taken to be as often
        right.
        n: answers so far.
        target: what the interval's lower end is to reach.

    Returns:
        0 where it is there already, of at least `ENOUGH` answers; None where no number of such
        answers would do, as the fraction itself is below the target.
    """
    if value < target or target >= 1:
        return None
    # Wilson's lower end is at the target where (value − target)² = z² · target · (1 − target) / n.
    z2 = 1.959963984540054**2
    if value == target:
        return None
    wanted = z2 * target * (1 - target) / (value - target) ** 2
    return max(0, ENOUGH - n, math.ceil(wanted - n - 1e-9))


def kappa(a: Int64[np.ndarray, "n"], b: Int64[np.ndarray, "n"]) -> float:
    """Cohen's kappa: by how much two raters agree beyond what chance would do; 1 where both always
    say the same one thing."""
    classes = np.union1d(a, b)
    expected = sum(float((a == c).mean() * (b == c).mean()) for c in classes)
    return 1.0 if expected == 1 else float(((a == b).mean() - expected) / (1 - expected))


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's alpha for classes: 1 − observed / expected disagreement over all pairs of
    answers about one thing.

    Args:
        units: for each thing, the answers of those who were asked, however many; negative ones
        count as missing.

    Returns: None where no thing has two answers, or only one class was ever given, so that nothing
        can be said.
    """
    values = np.array([value for unit in units for value in unit], dtype=np.int64)
    thing = np.repeat(np.arange(len(units)), [len(unit) for unit in units])[values >= 0]
    values = values[values >= 0]
    classes = int(values.max(initial=0)) + 1
    counts = np.bincount(thing * classes + values, minlength=len(units) * classes).reshape(
        len(units), classes
    )
    counts = counts[counts.sum(1) > 1]
    each, totals = counts.sum(1), counts.sum(0)
    disagreed = ((each**2 - (counts**2).sum(1)) / (each - 1)).sum()
    expected = each.sum() ** 2 - (totals**2).sum()
    return None if expected == 0 else float(1 - (each.sum() - 1) * disagreed / expected)
