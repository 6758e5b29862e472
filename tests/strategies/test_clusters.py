"""TypiClust and Cluster-Margin."""

import numpy as np
import pytest
import torch
from torch import nn

import dfal
from dfal.nn import AUGMENTATIONS
from dfal.strategies.clusters import _draw_in_turn, most_typical
from dfal.strategies.looks import look_logits
from strategy_cases import rng


def test_cluster_margin_asks_about_small_margins_of_all_kinds(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = dfal.ClusterMargin(factor=3)(trained, pool, 6, rng())
    smallest = dfal.Margin()(trained, pool, 18, rng())
    assert torch.isin(query.indices, smallest.indices).all()
    scores = dict(zip(smallest.indices.tolist(), smallest.scores.tolist(), strict=True))
    assert query.scores.tolist() == [scores[image] for image in query.indices.tolist()]
    all_of_them = dfal.ClusterMargin(factor=1)(trained, pool, 6, rng())
    assert set(all_of_them.indices.tolist()) == set(smallest.indices[:6].tolist())


def test_the_first_of_many_images_by_cluster_margin_are_those_of_small_margins(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """A person is asked about the first few of them only."""
    few = len(pool.unlabelled) // 3
    query = dfal.ClusterMargin(factor=10)(trained, pool, few, rng())  # of all images, in clusters
    assert query.scores.tolist() == sorted(query.scores.tolist())
    assert query.scores[0] < query.scores[-1]
    mean = dfal.Margin()(trained, pool, len(pool.unlabelled), rng()).scores.mean()
    assert query.scores[: few // 4].mean() < 0.5 * mean


def test_looks_are_averaged(trained: nn.Sequential, pool: dfal.Pool) -> None:
    indices = pool.unlabelled[:30]
    one = look_logits(trained, pool, indices, 1, rng()).softmax(1)
    images = pool.images.take(indices)
    torch.testing.assert_close(one, dfal.predict(trained, images).softmax(1))
    draws = rng()
    looks = [images, *(AUGMENTATIONS["shapes"].strong(images, draws) for _ in range(2))]
    mean = torch.stack([dfal.predict(trained, look).softmax(1) for look in looks]).mean(0)
    torch.testing.assert_close(look_logits(trained, pool, indices, 3, rng()).softmax(1), mean)
    features = dfal.Pool.new(torch.randn(20, 5, generator=rng()), {0: 0})
    head = nn.Linear(5, 3)
    rows = look_logits(head, features, torch.arange(20), 3, rng()).softmax(1)
    torch.testing.assert_close(
        rows, dfal.predict(head, features.images.take(torch.arange(20))).softmax(1)
    )


def test_cluster_margin_over_looks_asks_where_their_mean_is_uncertain(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = dfal.ClusterMargin(factor=1, looks=4)(trained, pool, 6, rng())
    assert (
        query.scores.tolist()
        != dfal.ClusterMargin(factor=1)(trained, pool, 6, rng()).scores.tolist()
    )
    again = dfal.ClusterMargin(factor=1, looks=4)(trained, pool, 6, rng())
    assert torch.equal(query.indices, again.indices)


def test_typical_takes_the_middle_of_the_largest_cluster_first() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.5], [20.0], [21.0], [23.0], [24.0], [50.0]])
    cluster = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    picks, typicalities = most_typical(rows, 8, cluster, 3, neighbours=2)
    assert picks.tolist() == [4, 1, 7]
    torch.testing.assert_close(
        typicalities, torch.tensor([1 / 1.5, 1 / 1.25, 1.0]), rtol=1e-4, atol=0
    )


def test_typical_leaves_clusters_with_labels_to_the_end() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.5], [10.0], [11.0], [0.5]])
    cluster = torch.tensor([0, 0, 0, 1, 1, 0])
    picks, _ = most_typical(rows, 5, cluster, 2, neighbours=1)
    assert picks.tolist() == [3, 0], "the larger cluster has a label, and then both have"
    assert sorted(most_typical(rows, 5, cluster, 9, neighbours=1)[0].tolist()) == list(range(5))


def test_clusters_take_turns_and_the_smallest_begins() -> None:
    cluster = np.array([1, 1, 1, 2, 3, 3])
    for seed in range(10):
        order = _draw_in_turn(cluster, 6, rng(seed)).tolist()
        assert [int(cluster[row]) for row in order] == [2, 3, 1, 3, 1, 1]
        assert sorted(order) == list(range(6))
        assert _draw_in_turn(cluster, 2, rng(seed)).tolist() == order[:2]
    assert (
        len({tuple(_draw_in_turn(cluster, 6, rng(seed)).tolist()) for seed in range(300)}) == 12
    ), "the order within is random"


@pytest.mark.parametrize(("name", "limit"), [("DISTANCE_ROWS", 7), ("MOST_DISTANCES", 350)])
def test_typicality_is_the_same_in_blocks_of_rows(
    monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    rows, cluster = torch.randn(50, 3, generator=rng()), torch.zeros(50, dtype=torch.int64)
    picks, whole = most_typical(rows, 50, cluster, 5, neighbours=4)
    monkeypatch.setattr(f"dfal.strategies.clusters.{name}", limit)
    picks_in_blocks, blocks = most_typical(rows, 50, cluster, 5, neighbours=4)
    assert torch.equal(picks, picks_in_blocks)
    torch.testing.assert_close(whole, blocks)
