"""Label spreading over a graph, one answer at a time.

Source: Zhou, Bousquet, Lal, Weston & Schölkopf 2004.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

ACCURACY = 1e-6
"""Relative error of a solution."""

COLUMNS = 32
"""Columns that are solved together."""


def solve(
    graph: Any, alpha: float, right: Float32[np.ndarray, "n c"]
) -> Float32[np.ndarray, "n c"]:
    """Return (I − αS)⁻¹ B by Chebyshev's iteration.

    The eigenvalues of I − αS lie in [1 − α, 1 + α], so the number of steps is known beforehand, and
    the solution is linear in B.

    Args:
        graph: S, symmetric, with eigenvalues between −1 and 1.
        alpha: α, 0 ≤ α < 1.
        right: B.

    Source: Golub & Varga 1961.
    """
    if alpha == 0:
        return right.copy()
    root = math.sqrt((1 + alpha) / (1 - alpha))
    rate = (root - 1) / (root + 1)
    steps = math.ceil(math.log(2 / ACCURACY) / -math.log(rate))
    # The centre of the interval is 1, half its width α.
    rho = alpha
    solution = np.zeros_like(right)
    residual, step = right.copy(), right.copy()
    for _ in range(steps):
        solution += step
        residual -= step
        residual += alpha * (graph @ step)
        following = 1 / (2 / alpha - rho)
        step *= following * rho
        step += (2 * following / alpha) * residual
        rho = following
    return solution


class Spreading:
    """The labels of some images, spread over all.

    F = (I − αS)⁻¹ Y, where Y_ic = 1 for image i of class c. F is linear in Y: an answer adds a
    column of the inverse, and one that is taken back subtracts it.

    Args:
        graph: S.
        classes: number of columns.
        alpha: α.
    """

    def __init__(self, graph: Any, classes: int, alpha: float):
        self._graph, self._alpha = graph, alpha
        n = graph.shape[0]
        self.labels = np.full(n, -1, np.int64)
        self.mass = np.zeros((n, classes))
        self._own = np.zeros(n)
        self._total = np.zeros(n)

    def update(self, labels: Int64[np.ndarray, "n"]) -> None:
        """Spread these labels instead of those before.

        Args:
            labels: the class of each image; below 0 without one.
        """
        labels = np.maximum(labels, -1)
        changed = np.flatnonzero(labels != self.labels)
        for start in range(0, len(changed), COLUMNS):
            images = changed[start : start + COLUMNS]
            right = np.zeros((len(labels), len(images)), np.float32)
            right[images, np.arange(len(images))] = 1
            columns = solve(self._graph, self._alpha, right)
            self._own[images] = columns[images, np.arange(len(images))]
            self._total[images] = columns.sum(axis=0, dtype=np.float64)
            for column, before, after in zip(
                columns.T, self.labels[images], labels[images], strict=True
            ):
                if before >= 0:
                    self.mass[:, before] -= column
                if after >= 0:
                    self.mass[:, after] += column
        self.labels = labels.copy()
        for label in np.flatnonzero(~np.isin(np.arange(self.mass.shape[1]), labels)):
            self.mass[:, label] = 0  # what rounding left

    def posterior(self) -> Float32[np.ndarray, "n c"]:
        """Return the class probabilities of each image: columns of equal mass, rows of sum 1.

        A row that no label reaches has the same probability for every class with a label; one
        without any label, for all classes.
        """
        return _probabilities(self.mass, self.mass.sum(axis=0))

    def left_out(self) -> Float32[np.ndarray, "l c"]:
        """Return the class probabilities of each labelled image, ascending, without its label."""
        images = np.flatnonzero(self.labels >= 0)
        labels = self.labels[images]
        each = np.arange(len(images))
        mass = self.mass[images]
        mass[each, labels] -= self._own[images]
        totals = np.tile(self.mass.sum(axis=0), (len(images), 1))
        totals[each, labels] -= self._total[images]
        return _probabilities(mass, totals)


def _probabilities(
    mass: Float64[np.ndarray, "n c"], totals: Float64[np.ndarray, "*n c"]
) -> Float32[np.ndarray, "n c"]:
    """Return mass / totals with rows of sum 1; columns without mass have probability 0."""
    tiny = 1e-9
    has_label = np.broadcast_to(totals > tiny, mass.shape)
    scaled = np.where(has_label, np.maximum(mass, 0) / np.maximum(totals, tiny), 0)
    sums = scaled.sum(axis=1, keepdims=True)
    seen = np.maximum(has_label.sum(axis=1, keepdims=True), 1)
    even = np.where(has_label.any(axis=1, keepdims=True), has_label / seen, 1 / mass.shape[1])
    reached = sums > tiny / max(len(mass), 1)
    return np.where(reached, scaled / np.where(reached, sums, 1), even).astype(np.float32)
