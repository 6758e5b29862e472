"""BADGE and its k-means++ seeds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dfal
from dfal.nn.features import last_layer_inputs
from dfal.strategies.badge import k_means_plus_plus
from strategy_cases import apart, normal, rng


def test_badge_begins_with_the_longest_gradient_of_the_last_layer(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = dfal.BADGE()(trained, pool, 5, rng())
    images = pool.images.take(pool.unlabelled)
    p, x = dfal.predict(trained, images).softmax(1), last_layer_inputs(trained, images)
    error = p - nn.functional.one_hot(p.argmax(1), 10)
    gradients = (error.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
    longest = gradients.norm(dim=1).argmax()
    assert int(query.indices[0]) == int(pool.unlabelled[longest])
    torch.testing.assert_close(query.scores[0], gradients[longest].norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_plus_plus_measures_distances_of_outer_products(seed: int) -> None:
    a, x = normal(40, 3, seed=seed), normal(40, 5, seed=seed + 10)
    seeds, distances = k_means_plus_plus(a, x, 40, rng(seed))
    products = torch.einsum("nc,nd->ncd", a, x).flatten(1)
    between = apart(products, products)
    assert sorted(seeds.tolist()) == list(range(40))
    assert int(seeds[0]) == int(products.norm(dim=1).argmax())
    want = [float(products[seeds[0]].norm())] + [
        between[seeds[i], seeds[:i]].min() for i in range(1, 40)
    ]
    np.testing.assert_allclose(distances.numpy(), want, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_plus_plus_of_equal_rows_draws_each_once(value: float) -> None:
    a, x = torch.full((30, 2), value), torch.full((30, 3), 0.7)
    seeds, distances = k_means_plus_plus(a, x, 30, rng())
    assert sorted(seeds.tolist()) == list(range(30))
    assert distances[1:].max() < 1e-2
    seconds = {int(k_means_plus_plus(a, x, 2, rng(seed))[0][1]) for seed in range(40)}
    assert len(seconds) > 10, "what ties is drawn, not taken in order"


def test_plus_plus_draws_in_proportion_to_squared_distance() -> None:
    x = torch.tensor([[10.0], [9.0], [8.0], [6.0]])
    generator, draws = rng(), 3000
    found = torch.bincount(
        torch.tensor(
            [int(k_means_plus_plus(torch.ones(4, 1), x, 2, generator)[0][1]) for _ in range(draws)]
        )
    )
    expected = draws * torch.tensor([1.0, 4.0, 16.0]) / 21
    assert found[0] == 0
    assert ((found[1:] - expected).square() / expected).sum() < 16, (
        "a χ² with 2 degrees of freedom is as large once in 3,000"
    )


PEAK = """
from pathlib import Path
import torch
from dfal.strategies.badge import k_means_plus_plus

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))

k_means_plus_plus(torch.rand(10, 2), torch.rand(10, 3), 2, torch.Generator())
a, x = torch.rand(200_000, 10), torch.rand(200_000, 384)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
k_means_plus_plus(a, x, 2, torch.Generator())
print((memory("VmHWM") - before) / x.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this machine is no Linux")
def test_the_features_are_not_held_twice() -> None:
    ran = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 0.5
