"""What a few seeds can tell: intervals, paired tests, and the correction for making many of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def half_width(values: Float64[np.ndarray, "s"]) -> float:
    """Half the width of the mean's 95 % t interval; NaN for one value."""
    from scipy.stats import t  # noqa: PLC0415  a second that importing dfal need not take

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def paired_p(differences: Float64[np.ndarray, "s"]) -> float:
    """The two-sided p-value of a paired t-test: how likely such a mean difference is if there is none. NaN for one pair, 1
    where all differences are 0."""
    from scipy.stats import t  # noqa: PLC0415

    if len(differences) < 2:
        return float("nan")
    mean, spread = differences.mean(), differences.std(ddof=1)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / spread * np.sqrt(len(differences)), len(differences) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values for a family of tests, so that the chance of any false alarm among them stays what it says (Holm 1979).

    NaN stays NaN and does not count.
    """
    order = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    adjusted = [float("nan")] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted
