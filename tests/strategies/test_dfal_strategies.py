"""DFAL and BatchDFAL beside the attack itself."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import dfal
from strategy_cases import rng


def test_dfal_asks_about_the_nearest_and_brings_their_twins(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    found = dfal.DeepFool()(trained, pool.images.take(pool.unlabelled))
    order = found.distance.argsort()[:10]
    query = dfal.DFAL(candidates=None)(trained, pool, 10, rng())
    assert query.indices.tolist() == pool.unlabelled[order].tolist()
    torch.testing.assert_close(query.scores, found.distance[order], rtol=1e-3, atol=1e-5)
    assert query.twins is not None
    assert query.twinned is not None
    assert torch.equal(query.twinned, query.indices)
    torch.testing.assert_close(query.twins, found.images[order], rtol=1e-3, atol=1e-3)
    assert (
        dfal.predict(trained, query.twins).argmax(1)
        != dfal.predict(trained, pool.images.take(query.indices)).argmax(1)
    ).all()


def test_dfal_streams_a_pool_larger_than_a_chunk(
    monkeypatch: pytest.MonkeyPatch, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    whole = dfal.DFAL(candidates=None)(trained, pool, 12, rng())
    monkeypatch.setattr("dfal.nn.passes.CHUNK_IMAGES", 8)
    chunked = dfal.DFAL(candidates=None)(trained, pool, 12, rng())
    assert whole.indices.tolist() == chunked.indices.tolist()
    assert whole.twins is not None
    assert chunked.twins is not None
    torch.testing.assert_close(whole.twins, chunked.twins, rtol=1e-3, atol=1e-3)
    assert dfal.Entropy()(trained, pool, 9, rng()).indices.tolist()


def test_what_is_not_fooled_comes_last_and_has_no_twin() -> None:
    class HalfFlat(nn.Module):
        """Images above 0.5 are far from any boundary, for their logits do not move."""

        def forward(self, x: Tensor) -> Tensor:
            slope = torch.where(x[:, 0] > 0.5, 0.0, 1.0) * x[:, 0]
            return torch.stack([slope, -slope + 1e-3], dim=1)

    images = torch.tensor([[0.9], [0.2], [0.8], [0.1], [0.7]])
    query = dfal.DFAL(candidates=None)(HalfFlat(), dfal.Pool.new(images, {}), 4, rng())
    assert query.indices[:2].tolist() == [3, 1]
    assert query.scores[2:].isinf().all()
    assert query.twinned is not None
    assert query.twinned.tolist() == [3, 1]


def test_dfal_without_twins_asks_the_same(trained: nn.Sequential, pool: dfal.Pool) -> None:
    with_twins, without = (
        dfal.DFAL()(trained, pool, 10, rng()),
        dfal.DFAL(twins=False)(trained, pool, 10, rng()),
    )
    assert torch.equal(with_twins.indices, without.indices)
    assert without.twins is None


def test_an_image_that_is_not_fooled_is_far_whatever_the_attack_says_of_it(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """An attack may give the length of the way that it went in vain."""

    @dataclass(frozen=True)
    class Partial:
        def __call__(self, model: nn.Module, images: Tensor) -> dfal.Perturbation:
            fooled = torch.arange(len(images)) % 2 == 1
            return dfal.Perturbation(images + 1, torch.arange(len(images)).float(), fooled)

    for strategy in (
        dfal.DFAL(Partial(), candidates=8),
        dfal.BatchDFAL(Partial(), candidates=8, factor=1),
    ):
        query = strategy(trained, pool, 6, rng())
        assert query.scores.tolist() == [1, 3, 5, 7, torch.inf, torch.inf]
        assert query.twinned is not None
        assert torch.equal(query.twinned, query.indices[:4])
