"""CEAL and its pseudo-labels."""

import torch
from torch import nn

import dfal
from dfal.data.datasets import Dataset
from strategy_cases import rng


def test_ceal_guesses_what_is_sure_and_only_for_a_round(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    strategy = dfal.CEAL(threshold=0.3, decay=0.1)
    query = strategy(trained, pool, 10, rng())
    f = dfal.predict(trained, pool.images.take(pool.unlabelled))
    sure = pool.unlabelled[(torch.special.entr(f.softmax(1)).sum(1) < 0.3)]
    assert query.guessed is not None
    assert query.guesses is not None
    assert 0 < len(query.guessed) < len(pool.unlabelled) - 10
    assert set(query.guessed.tolist()) == set(sure.tolist()) - set(query.indices.tolist())
    assert torch.equal(
        query.guesses, dfal.predict(trained, pool.images.take(query.guessed)).argmax(1)
    )
    assert torch.equal(query.indices, dfal.Entropy()(trained, pool, 10, rng()).indices)

    answers = torch.zeros(10, dtype=torch.int64)
    later = pool.learn(query, answers)
    assert later.annotations == pool.annotations + 10
    assert later.labelled_data_size == later.annotations + len(query.guessed)
    assert torch.isin(query.guessed, later.unlabelled).all()
    second = strategy(trained, later, 10, rng())  # the threshold is 0.2 now
    assert second.guessed is not None
    assert len(second.guessed) < len(query.guessed)
    for _ in range(3):
        later = later.learn(dfal.Query.nothing(), [])
    none = strategy(trained, later, 10, rng())
    assert none.guessed is not None
    assert len(none.guessed) == 0


def test_released_ceal_is_entropy(trained: nn.Sequential, digits: Dataset) -> None:
    pool = dfal.Pool.new(digits.images, {0: 0, 1: 1})
    ours, entropy = (
        one(trained, pool, 10, rng())
        for one in (dfal.CEAL(candidates=99, guesses=False), dfal.Entropy(candidates=99))
    )
    assert torch.equal(ours.indices, entropy.indices)
    assert ours.guessed is None
    assert dfal.CEAL(candidates=99, threshold=2)(trained, pool, 10, rng()).guessed is not None
