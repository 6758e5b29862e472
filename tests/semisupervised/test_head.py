"""The linear layer."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from dfal.semisupervised.head import fit_head, probabilities

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(3, size=200)
ROWS = (np.eye(5)[TRUTH] + 0.5 * RNG.standard_normal((200, 5))).astype(np.float32)
WEIGHTS = RNG.random(200).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[TRUTH]


def test_head_is_weighted_logistic_regression() -> None:
    """scikit-learn minimises Σ w_i CE_i + ‖W‖² / 2C."""
    strength = 0.01
    head = fit_head(ROWS, TARGETS, WEIGHTS, strength)
    reference = LogisticRegression(C=1 / (strength * WEIGHTS.sum()), tol=1e-8, max_iter=1000)
    reference.fit(ROWS, TRUTH, WEIGHTS)
    np.testing.assert_allclose(head.weight, reference.coef_, atol=2e-3)
    expected = reference.predict_proba(ROWS)
    np.testing.assert_allclose(probabilities(head(ROWS)), expected, atol=1e-3)


def test_start_changes_only_the_way_there() -> None:
    cold = fit_head(ROWS, TARGETS, WEIGHTS, 0.01)
    other = fit_head(ROWS[:20], TARGETS[:20], WEIGHTS[:20], 0.01)
    warm = fit_head(ROWS, TARGETS, WEIGHTS, 0.01, start=other)
    np.testing.assert_allclose(warm.weight, cold.weight, atol=2e-3)


def test_soft_targets_are_weighted_hard_ones() -> None:
    soft = 0.7 * TARGETS + 0.3 * np.roll(TARGETS, 1, axis=1)
    doubled = fit_head(
        np.concatenate([ROWS, ROWS]),
        np.concatenate([TARGETS, np.roll(TARGETS, 1, axis=1)]),
        np.repeat([0.7, 0.3], 200).astype(np.float32),
        0.01,
    )
    head = fit_head(ROWS, soft, np.ones(200, np.float32), 0.01)
    np.testing.assert_allclose(head.weight, doubled.weight, atol=2e-3)
