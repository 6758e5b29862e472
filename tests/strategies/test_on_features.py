"""What holds for every strategy where rows of features take the place of images."""

import pytest
import torch
from torch import nn

import dfal
from dfal.nn.networks import linear
from dfal.protocols import Strategy
from dfal.strategies import STRATEGIES
from dfal.strategies.closed_form import in_closed_form
from strategy_cases import normal, rng

EVERY = [in_closed_form(strategy) for strategy in STRATEGIES.values()] + [
    in_closed_form(dfal.WithTwins(dfal.Margin())),
    dfal.WithTwins(dfal.Entropy(), attack=dfal.FGSM()),
]
every = pytest.mark.parametrize("strategy", EVERY, ids=repr)


def rows(seed: int = 0, n: int = 60) -> torch.Tensor:
    """Rows of length 1 around three centres, in half precision, as the file of features has."""
    centres = 2 * normal(3, 24, seed=9)
    near = centres[torch.arange(n) % 3] + normal(n, 24, seed=seed)
    return nn.functional.normalize(near).half()


@pytest.fixture(scope="module")
def pool() -> dfal.Pool:
    return dfal.Pool.new(rows(), {0: 0, 1: 1, 2: 2, 3: 0})


@pytest.fixture(scope="module")
def head(pool: dfal.Pool) -> nn.Module:
    settings = dfal.Training(epochs=30, learning_rate=0.02)
    return dfal.fit(lambda: linear((24,), 3), pool.labelled_data(), settings, 0)


@every
@pytest.mark.parametrize("k", [0, 1, 10, 1000])
def test_queries_k_unlabelled_images(
    strategy: Strategy, k: int, head: nn.Module, pool: dfal.Pool
) -> None:
    query = strategy(head, pool, k, rng())
    assert len(query.indices) == len(query.indices.unique()) == min(k, 56)
    assert torch.isin(query.indices, pool.unlabelled).all()
    assert not query.scores.isnan().any()
    after = pool.learn(query, [0] * len(query.indices))
    assert after.labelled_data().images.shape[1:] == (24,), "twins are rows, too"


@every
def test_same_generator_same_query(strategy: Strategy, head: nn.Module, pool: dfal.Pool) -> None:
    first, second = (strategy(head, pool, 10, rng(5)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.scores, second.scores)


@every
def test_equal_rows_are_queried_in_random_order(strategy: Strategy, head: nn.Module) -> None:
    same = dfal.Pool.new(rows()[:1].repeat(200, 1), {3: 0})
    query = strategy(head, same, 20, rng())
    assert len(query.indices.unique()) == 20
    assert not query.scores.isnan().any()
    assert query.indices.max() > 100


@every
def test_rows_of_zeros(strategy: Strategy, head: nn.Module) -> None:
    """An image whose features are the mean has a row of zeros."""
    query = strategy(head, dfal.Pool.new(torch.zeros(30, 24), {3: 0}), 5, rng())
    assert len(query.indices.unique()) == 5
    assert not query.scores.isnan().any()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name.startswith("dfal")])
def test_twins_are_just_across_the_boundary(name: str, head: nn.Module, pool: dfal.Pool) -> None:
    query = in_closed_form(STRATEGIES[name])(head, pool, 10, rng())
    if name.endswith("no-twins"):
        assert query.twins is None
        return
    assert query.twins is not None
    assert query.twinned is not None
    images = pool.images.take(query.twinned)
    assert len(images) == 10
    before, after = (dfal.predict(head, x).argmax(1) for x in (images, query.twins))
    assert (before != after).all()
    assert torch.allclose(
        (query.twins - images).norm(dim=1),
        query.scores * (1.02 if name != "dfal-released" else 1),
        rtol=0.05,
    )
