"""What a few answers can tell: the interval of a fraction, and how far those who answer agree."""

from collections import Counter
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


def kappa(a: Int64[np.ndarray, "n"], b: Int64[np.ndarray, "n"]) -> float:
    """Cohen's kappa: by how much two raters agree beyond what chance would do; 1 where both always say the same one thing."""
    classes = np.union1d(a, b)
    expected = sum(float((a == c).mean() * (b == c).mean()) for c in classes)
    return 1.0 if expected == 1 else float(((a == b).mean() - expected) / (1 - expected))


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's alpha for classes: 1 − observed / expected disagreement over all pairs of answers about one thing.

    Args:
        units: for each thing, the answers of those who were asked, however many; negative ones count as missing.

    Returns:
        None where no thing has two answers, or only one class was ever given, so that nothing can be said.
    """
    counted = [Counter(value for value in unit if value >= 0) for unit in units]
    pairable = [unit for unit in counted if unit.total() > 1]
    totals = sum(pairable, Counter[int]())
    n = totals.total()
    disagreed = sum((unit.total() ** 2 - sum(c * c for c in unit.values())) / (unit.total() - 1) for unit in pairable)
    expected = n * n - sum(c * c for c in totals.values())
    return None if expected == 0 else 1 - (n - 1) * disagreed / expected
