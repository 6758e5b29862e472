"""Coverage beside another strategy."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.experiments.trial import Trial
from dfal.seeding import generator
from dfal.strategies.base import embed
from dfal.strategies.clusters import TypiClust
from strategy_cases import rng

K = 10


def hidden_class() -> tuple[nn.Module, dfal.Pool]:
    """Two large groups of noisy images with a label, and a small one that the network cannot tell.

    It takes all images of the small group, the last 12, for the first class, with certainty.
    """
    noise = generator(0, 0, "noise")
    groups = torch.eye(3).repeat_interleave(torch.tensor([100, 100, 12]), 0)
    images = groups + 0.05 * torch.randn(groups.shape, generator=noise)
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[9.0, -9.0, 30.0], [-9.0, 9.0, -30.0]]))
    return network, dfal.Pool.new(images, {0: 0, 100: 1})


def test_a_class_is_found_that_the_network_is_certain_of() -> None:
    network, pool = hidden_class()
    alone = dfal.Margin()(network, pool, K, rng()).indices
    assert not bool((alone >= 200).any())
    both = dfal.WithCoverage(dfal.Margin(), 0.2)(network, pool, K, rng()).indices
    assert bool((both[-2:] >= 200).any())
    assert set(both[:8].tolist()) <= set(dfal.Margin()(network, pool, K, rng()).indices.tolist())
    everything = dfal.WithCoverage(dfal.Margin(), 0.2)(network, pool, 500, rng()).indices
    assert sorted(everything.tolist()) == pool.unlabelled.tolist(), "each image once"


def test_a_share_of_few_images_is_right_on_average() -> None:
    network, pool = hidden_class()
    covering = dfal.WithCoverage(Nothing(), 0.3)
    counts = [len(covering(network, pool, 1, rng(seed)).indices) for seed in range(200)]
    assert set(counts) == {0, 1}
    assert 0.2 < sum(counts) / 200 < 0.4
    assert {len(covering(network, pool, K, rng(seed)).indices) for seed in range(5)} == {3}


class Nothing(dfal.Random):
    """Queries no image, so that only the covered ones are there."""

    def __call__(
        self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        return dfal.Query.nothing()


def test_components_of_pixels_are_rows_of_length_1(some_digits: Tensor) -> None:
    pool = dfal.Pool.new(some_digits, {0: 0})
    query = TypiClust(space="components")(nn.Identity(), pool, 5, rng())
    assert len(query.indices.unique()) == 5
    centred = some_digits.flatten(1) - some_digits.flatten(1).mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    rows = torch.nn.functional.normalize(centred @ directions[:47].T)
    found = embed(nn.Identity(), pool, torch.arange(48), "components")
    torch.testing.assert_close(found @ found.T, rows @ rows.T, rtol=0, atol=1e-4)


def test_a_trial_covers_a_share_of_each_query() -> None:
    alone_trial = Trial(
        strategy=dfal.Margin(),
        annotations=40,
        first=10,
        batch=30,
        training=dfal.Training(epochs=1),
    )
    trials = [alone_trial, replace(alone_trial, coverage=0.5)]
    data = trials[0].data()
    alone, covering = (next(iter(trial.run(data))).query.indices for trial in trials)
    assert set(covering[:15].tolist()) <= set(alone.tolist())
    assert len(set(covering[15:].tolist()) - set(alone.tolist())) > 10
    assert trials[0].id != trials[1].id
    assert "coverage" not in trials[0].to_json()
    with pytest.raises(dfal.DfalError, match="coverage must be 0 to 1"):
        Trial(coverage=1.5)
