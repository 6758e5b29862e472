"""Label spreading, answer by answer."""

import numpy as np
import pytest

from dfal.semisupervised.graph import nearest, normalised
from dfal.semisupervised.spreading import Spreading, solve

N, CLASSES = 120, 3


def blobs(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around three directions, and the direction of each."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % CLASSES
    rows = np.eye(8)[truth] + 0.2 * rng.standard_normal((n, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


ROWS, TRUTH = blobs()
GRAPH = normalised(nearest(ROWS, 6))


def plain(labels: np.ndarray, alpha: float) -> np.ndarray:
    """Return (I − αS)⁻¹ Y by elimination in double precision."""
    y = np.zeros((N, CLASSES))
    y[labels >= 0, labels[labels >= 0]] = 1
    return np.linalg.solve(np.eye(N) - alpha * GRAPH.toarray().astype(float), y)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.99])
def test_solution_is_that_of_elimination(alpha: float) -> None:
    right = np.random.default_rng(1).standard_normal((N, 4)).astype(np.float32)
    exact = np.linalg.solve(np.eye(N) - alpha * GRAPH.toarray().astype(float), right)
    found = solve(GRAPH, alpha, right)
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_answers_one_by_one_are_the_plain_solve(alpha: float) -> None:
    """Answers come, are taken back and corrected, images are declined."""
    rng = np.random.default_rng(2)
    spreading = Spreading(GRAPH, CLASSES, alpha)
    labels = np.full(N, -1)
    for _ in range(60):
        labels[rng.integers(N)] = rng.integers(-2, CLASSES)
        spreading.update(labels)
        exact = plain(labels, alpha)
        assert np.abs(spreading.mass - exact).max() <= 1e-5 * max(exact.max(), 1)
    posterior = spreading.posterior()
    scaled = exact / exact.sum(0)
    np.testing.assert_allclose(posterior, scaled / scaled.sum(1, keepdims=True), atol=1e-4)
    spreading.update(np.full(N, -1))
    assert not spreading.mass.any()


def test_left_out_is_spreading_without_that_label() -> None:
    labels = np.full(N, -1)
    labels[:15] = TRUTH[:15]
    labels[4] = (labels[4] + 1) % CLASSES
    spreading = Spreading(GRAPH, CLASSES, 0.9)
    spreading.update(labels)
    for image, found in enumerate(spreading.left_out()):
        without = labels.copy()
        without[image] = -1
        other = Spreading(GRAPH, CLASSES, 0.9)
        other.update(without)
        np.testing.assert_allclose(found, other.posterior()[image], atol=1e-3)
    assert spreading.left_out()[4].argmax() == TRUTH[4]


def test_one_label_of_each_class_is_enough_for_separate_blobs() -> None:
    labels = np.full(N, -1)
    labels[:3] = TRUTH[:3]
    spreading = Spreading(GRAPH, CLASSES, 0.99)
    spreading.update(labels)
    assert (spreading.posterior().argmax(1) == TRUTH).mean() > 0.97


def test_probabilities_without_labels_and_with_one_class_only() -> None:
    spreading = Spreading(GRAPH, CLASSES, 0.9)
    np.testing.assert_allclose(spreading.posterior(), 1 / CLASSES)
    labels = np.full(N, -1)
    labels[7] = 2
    spreading.update(labels)
    np.testing.assert_allclose(spreading.posterior(), np.tile([0.0, 0, 1], (N, 1)))
    np.testing.assert_allclose(spreading.left_out(), 1 / CLASSES)
