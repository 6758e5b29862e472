"""Uncertainty sampling beside float64 formulas."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import dfal
from dfal.strategies import STRATEGIES
from strategy_cases import linear, rng


def reference(f: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores in float64, the lowest to be asked first."""
    p = np.exp(f - f.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    ordered = np.sort(p, axis=1)
    return {
        "entropy": np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1),
        "margin": ordered[:, -1] - ordered[:, -2],
        "least-confidence": ordered[:, -1],
    }


@pytest.mark.parametrize("name", ["entropy", "margin", "least-confidence"])
def test_uncertainty_asks_what_the_formula_says(
    name: str, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = STRATEGIES[name](trained, pool, 10, rng())
    f = dfal.predict(trained, pool.images.take(pool.unlabelled)).double().numpy()
    scores = reference(f)[name]
    want = pool.unlabelled[torch.from_numpy(np.argsort(scores)[:10].copy())]
    assert query.indices.tolist() == want.tolist()
    np.testing.assert_allclose(
        np.sort(np.abs(query.scores.numpy())), np.sort(np.abs(np.sort(scores)[:10])), rtol=1e-4
    )


def test_a_certain_image_is_asked_about_last() -> None:
    pool = dfal.Pool.new(torch.tensor([[1e4], [0.01], [-1e4]]), {})
    model = linear([[1.0], [-1.0]])
    for strategy in (dfal.Entropy(), dfal.Margin(), dfal.LeastConfidence(), dfal.DFAL()):
        assert int(strategy(model, pool, 3, rng()).indices[0]) == 1, strategy


def test_released_entropy_asks_about_the_most_certain_first() -> None:
    """Images whose probabilities were rounded to 0 and 1 come before everything."""
    images = torch.cat([torch.full((3, 1, 1, 2), 1e4), torch.rand(7, 1, 1, 2)])
    images[:3, ..., 1] = 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.eye(2)
    pool = dfal.Pool.new(images, {9: 0})
    query = dfal.Entropy(guarded=False)(model, pool, 3, rng())
    assert set(query.indices.tolist()) == {0, 1, 2}
    assert query.scores.isinf().all()
    guarded = dfal.Entropy()(model, pool, 3, rng())
    assert not set(guarded.indices.tolist()) & {0, 1, 2}
