"""BatchBALD beside exact joint information."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.strategies.batch_bald import batch_bald
from dfal.strategies.scores import mutual_information
from strategy_cases import Array, normal, rng


def information(p: Array, rows: list[int]) -> float:
    """I(y_1 … y_b; ω) over all combinations of classes."""
    found = 0.0
    for classes in product(range(p.shape[2]), repeat=len(rows)):
        q = float(
            np.prod([p[:, row, y] for row, y in zip(rows, classes, strict=True)], axis=0).mean()
        )
        found -= q * math.log(q) if q > 0 else 0.0
    alone = p[:, rows]
    return found + float(np.sum(alone * np.log(np.where(alone > 0, alone, 1)))) / len(p)


def probabilities(t: int, n: int, c: int, seed: int = 0) -> Tensor:
    return (normal(t, n, c, seed=seed) * 2).double().softmax(2)


def test_batch_bald_asks_about_no_two_that_tell_the_same(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """Each image is there ten times: BALD asks about one ten times, BatchBALD about ten different
    ones."""
    images = pool.images.take(torch.arange(20)).repeat(10, 1, 1, 1)
    copies = dfal.Pool.new(images, {})
    batch = dfal.BatchBALD(candidates=None, passes=50)(trained, copies, 4, rng())
    assert len((batch.indices % 20).unique()) >= 3
    first = dfal.BALD(passes=50)(trained, copies, 1, rng()).scores
    assert float(batch.scores[0]) > 0.7 * float(first[0]) > 0.1, "networks differ from pass to pass"
    assert (batch.scores[:-1] >= batch.scores[1:] - 0.02).all()


@pytest.mark.parametrize("seed", range(4))
def test_batch_bald_is_greedy_in_the_exact_joint_information(seed: int) -> None:
    p = probabilities(3, 7, 3, seed)
    p[0, 2] = torch.tensor([0.0, 1.0, 0.0])
    order, gains = batch_bald(p, 4, 10_000, rng())
    picks: list[int] = []
    for pick, gain in zip(order.tolist(), gains.tolist(), strict=True):
        before = information(p.numpy(), picks)
        all_gains = {
            row: information(p.numpy(), [*picks, row]) - before
            for row in range(7)
            if row not in picks
        }
        assert pick == max(all_gains, key=lambda row: all_gains[row])
        assert gain == pytest.approx(all_gains[pick], abs=1e-6)
        picks.append(pick)


def test_batch_bald_begins_with_the_largest_mutual_information() -> None:
    p = probabilities(5, 50, 10)
    order, gains = batch_bald(p, 1, 10_000, rng())
    alone = mutual_information(p.log())
    assert int(order[0]) == int(alone.argmax())
    assert gains[0] == pytest.approx(float(alone.max()), rel=1e-5)


def test_batch_bald_does_not_ask_twice_for_what_it_was_told() -> None:
    certain = torch.eye(2, dtype=torch.double).unsqueeze(1).repeat(1, 3, 1)
    p = torch.cat([certain, probabilities(2, 1, 2)], dim=1)
    order, gains = batch_bald(p, 4, 10_000, rng())
    assert gains[0] == pytest.approx(math.log(2))
    assert gains[1:].max() < 1e-6
    assert sorted(order.tolist()) == list(range(4))


def test_sampled_batch_bald_is_right_on_average() -> None:
    p = probabilities(4, 5, 8)
    totals = [float(batch_bald(p, 5, 100, rng(seed))[1].sum()) for seed in range(60)]
    error = float(np.std(totals)) / math.sqrt(len(totals))
    assert error > 0, "classes were sampled"
    assert np.mean(totals) == pytest.approx(information(p.numpy(), list(range(5))), abs=4 * error)


def test_batch_bald_is_exact_up_to_so_many_combinations_and_sampled_beyond() -> None:
    p = probabilities(4, 30, 3)
    first, second = (batch_bald(p, 4, 9, rng(seed))[1] for seed in range(2))
    assert torch.equal(first[:3], second[:3])
    assert not torch.equal(first[3:], second[3:])


@pytest.mark.parametrize("samples", [1, 20])
def test_batch_bald_of_all_images_takes_each_once(samples: int) -> None:
    order, gains = batch_bald(probabilities(4, 150, 5), 150, samples, rng())
    assert sorted(order.tolist()) == list(range(150))
    assert gains.min() >= 0


def test_batch_bald_of_more_images_than_a_product_of_probabilities_can_hold() -> None:
    order, gains = batch_bald(normal(5, 400, 10).softmax(2), 400, 20, rng())
    assert sorted(order.tolist()) == list(range(400))
    assert not gains.isnan().any()
