"""The contract every strategy keeps, and an independent check of each."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dfal
from dfal import strategies
from dfal.datasets import Dataset
from dfal.strategies import NAMED, name_of, with_candidates
from dfal.types import Strategy

EVERY = [
    *NAMED.values(),
    dfal.DFAL(candidates=None),
    dfal.DFAL(attack=dfal.LinearHead(), twins=False),
    dfal.Entropy(candidates=20),
    dfal.Margin(candidates=20),
    dfal.LeastConfidence(candidates=20),
    dfal.CEAL(candidates=20, threshold=3.0),
    dfal.CoreSet(candidates=20),
    dfal.RobustCoreSet(candidates=20, outliers=3),
    dfal.EGL(candidates=20),
    dfal.BatchBALD(candidates=20, samples=50),
    dfal.Stochastic(dfal.DFAL()),
    dfal.Stochastic(dfal.Margin(candidates=20), form="soft-rank"),
    dfal.Stochastic(dfal.Entropy(), form="softmax", beta=torch.inf),
    dfal.TypiClust(space="features", neighbours=3),
    dfal.ProbCover(space="features", radius=0.3),
    dfal.WithTwins(dfal.Entropy()),
    dfal.WithTwins(dfal.CEAL(threshold=3.0)),
    dfal.WithTwins(dfal.Random(), attack=dfal.FGSM()),
]
every = pytest.mark.parametrize("strategy", EVERY, ids=repr)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool(digits: Dataset) -> dfal.Pool:
    """60 digits, three of them labelled."""
    return dfal.Pool.new(digits.images.take(torch.arange(0, 4000, 66)[:60]), {0: 0, 7: 1, 59: 2})


def linear(weight: list[list[float]]) -> nn.Linear:
    model = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        model.weight[:] = torch.tensor(weight)
    return model


@every
def test_asks_about_distinct_unlabelled_images(strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool) -> None:
    query = strategy(trained, pool, 10, rng())
    assert len(query.indices) == len(query.scores) == 10
    assert len(query.indices.unique()) == 10
    assert torch.isin(query.indices, pool.unlabelled).all()
    assert not query.scores.isnan().any()


@every
def test_asks_about_all_that_are_left(strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool) -> None:
    query = strategy(trained, pool, 1000, rng())
    assert sorted(query.indices.tolist()) == pool.unlabelled.tolist()


@every
def test_asks_about_nothing_when_nothing_is_left(strategy: Strategy, trained: nn.Sequential) -> None:
    full = dfal.Pool.new(torch.rand(3, 1, 28, 28), {0: 0, 1: 1, 2: 2})
    query = strategy(trained, full, 10, rng())
    assert len(query.indices) == 0
    full.learn(query, [])


@every
def test_a_pool_of_one(strategy: Strategy, trained: nn.Sequential) -> None:
    query = strategy(trained, dfal.Pool.new(torch.rand(1, 1, 28, 28), {}), 10, rng())
    assert query.indices.tolist() == [0]


@every
def test_same_generator_same_question(strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool) -> None:
    first, second = (strategy(trained, pool, 10, rng(5)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.scores, second.scores)
    if first.twins is not None and second.twins is not None:
        assert torch.equal(first.twins, second.twins)


@every
def test_changes_nothing_but_its_generator(strategy: Strategy, pool: dfal.Pool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10)).train()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    labels, state = pool.labels.clone(), torch.get_rng_state()
    strategy(model, pool, 5, rng())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(pool.labels, labels)
    assert torch.equal(torch.get_rng_state(), state)


@every
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_extreme_logits(strategy: Strategy, scale: float, pool: dfal.Pool) -> None:
    layer = nn.Linear(784, 10)
    with torch.no_grad():
        layer.weight *= scale
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), layer)
    query = strategy(model, pool, 10, rng())
    assert len(query.indices.unique()) == 10
    assert not query.scores.isnan().any()


@every
def test_constant_and_duplicated_images(strategy: Strategy, trained: nn.Sequential) -> None:
    for image in (torch.zeros(1, 1, 28, 28), torch.rand(1, 1, 28, 28, generator=rng())):
        query = strategy(trained, dfal.Pool.new(image.repeat(40, 1, 1, 1), {3: 0}), 10, rng())
        assert len(query.indices.unique()) == 10
        assert not query.scores.isnan().any()


@every
def test_ties_are_not_broken_by_the_order_of_the_files(strategy: Strategy, trained: nn.Sequential) -> None:
    same = dfal.Pool.new(torch.full((200, 1, 28, 28), 0.5), {})
    query = strategy(trained, same, 20, rng())
    assert sorted(query.indices.tolist()) != list(range(20))
    assert query.indices.max() > 100


@every
def test_no_label_of_an_unlabelled_image_is_there_to_be_read(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    assert (pool.labels[pool.unlabelled] == dfal.UNKNOWN).all()
    assert strategy(trained, pool, 3, rng()).indices.shape == (3,)


PIXELS = {"typi-clust", "max-herding"}
"""Strategies that do not look through the network."""


@pytest.mark.parametrize("name", sorted(NAMED.keys() - {"random"} - PIXELS))
def test_candidates_bound_what_is_looked_at(name: str, trained: nn.Sequential, pool: dfal.Pool) -> None:
    seen = 0

    def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal seen
        seen = max(seen, len(inputs[0]))

    hook = trained.register_forward_pre_hook(count)
    query = with_candidates(NAMED[name], 15)(trained, pool, 10, rng())
    hook.remove()
    assert len(query.indices) == 10
    with_labelled = name in {"core-set", "core-set-robust", "u-herding"}
    assert seen == (1 if name == "prob-cover" else 15 + 3 * with_labelled)
    few = with_candidates(NAMED[name], 3)(trained, pool, 10, rng())
    assert len(few.indices) == 10, "a batch larger than K is still filled"


def test_candidates_are_drawn_anew_with_each_generator(trained: nn.Sequential, pool: dfal.Pool) -> None:
    first, second = (dfal.DFAL(candidates=15)(trained, pool, 10, rng(seed)) for seed in (0, 1))
    assert set(first.indices.tolist()) != set(second.indices.tolist())


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
def test_uncertainty_asks_what_the_formula_says(name: str, trained: nn.Sequential, pool: dfal.Pool) -> None:
    query = NAMED[name](trained, pool, 10, rng())
    f = dfal.predict(trained, pool.images.take(pool.unlabelled)).double().numpy()
    scores = reference(f)[name]
    want = pool.unlabelled[torch.from_numpy(np.argsort(scores)[:10].copy())]
    assert query.indices.tolist() == want.tolist()
    np.testing.assert_allclose(np.sort(np.abs(query.scores.numpy())), np.sort(np.abs(np.sort(scores)[:10])), rtol=1e-4)


def test_a_certain_image_is_asked_about_last() -> None:
    pool = dfal.Pool.new(torch.tensor([[1e4], [0.01], [-1e4]]), {})
    model = linear([[1.0], [-1.0]])
    for strategy in (dfal.Entropy(), dfal.Margin(), dfal.LeastConfidence(), dfal.DFAL()):
        assert int(strategy(model, pool, 3, rng()).indices[0]) == 1, strategy


def test_random_is_uniform() -> None:
    pool = dfal.Pool.new(torch.zeros(10, 1), {0: 0, 5: 1})
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[dfal.Random()(nn.Identity(), pool, 2, rng(seed)).indices] += 1
    assert counts[[0, 5]].sum() == 0
    rest = counts[[1, 2, 3, 4, 6, 7, 8, 9]]
    assert ((rest - 500).abs() < 5 * math.sqrt(500)).all()


def test_dfal_asks_about_the_nearest_and_brings_their_twins(trained: nn.Sequential, pool: dfal.Pool) -> None:
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
        dfal.predict(trained, query.twins).argmax(1) != dfal.predict(trained, pool.images.take(query.indices)).argmax(1)
    ).all()


def test_dfal_streams_a_pool_larger_than_a_chunk(
    monkeypatch: pytest.MonkeyPatch, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    whole = dfal.DFAL(candidates=None)(trained, pool, 12, rng())
    monkeypatch.setattr("dfal.strategies.candidates.CHUNK", 7)
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


def test_with_twins_asks_what_its_strategy_asks(trained: nn.Sequential, pool: dfal.Pool) -> None:
    alone = dfal.Margin()(trained, pool, 10, rng())
    both = dfal.WithTwins(dfal.Margin())(trained, pool, 10, rng())
    assert torch.equal(alone.indices, both.indices)
    assert both.twins is not None
    found = dfal.DeepFool()(trained, pool.images.take(alone.indices))
    torch.testing.assert_close(both.twins, found.images)


def test_dfal_without_twins_asks_the_same(trained: nn.Sequential, pool: dfal.Pool) -> None:
    with_twins, without = dfal.DFAL()(trained, pool, 10, rng()), dfal.DFAL(twins=False)(trained, pool, 10, rng())
    assert torch.equal(with_twins.indices, without.indices)
    assert without.twins is None


def test_one_logit_networks_work(pool: dfal.Pool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 1), nn.Flatten(0))
    for strategy in EVERY:
        if "FGSM" not in repr(strategy):
            assert len(strategy(model, pool, 5, rng()).indices.unique()) == 5


def test_names() -> None:
    for name, strategy in NAMED.items():
        assert name_of(with_candidates(strategy, 17)) == {"entropy": "uncertainty"}.get(name, name)
    other = dfal.DFAL(attack=dfal.DeepFool(p=torch.inf))
    assert name_of(other) == repr(other)
    assert with_candidates(dfal.Random(), 5) == dfal.Random()


def test_every_strategy_of_the_package_is_in_the_contract() -> None:
    kinds = {type(strategy).__name__ for strategy in EVERY}
    assert kinds == set(strategies.__all__) - {"ABOUT", "NAMED", "name_of", "named", "with_candidates"}


@pytest.mark.parametrize("strategy", [dfal.DFAL(), dfal.Entropy(), dfal.Margin(), dfal.LeastConfidence()], ids=repr)
def test_no_candidates_are_refused(strategy: dfal.DFAL) -> None:
    with pytest.raises(dfal.DfalError, match="candidates = 0"):
        replace(strategy, candidates=0)
