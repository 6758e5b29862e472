"""CORE-SET beside plain loops and enumerated optima."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dfal
from dfal.data.datasets import Dataset
from dfal.strategies.core_set import k_centre
from dfal.strategies.selection import farthest_first
from strategy_cases import NONE, left_over, normal, optimum, points, rng


def test_core_set_asks_about_the_farthest_on_a_line() -> None:
    pool = dfal.Pool.new(torch.tensor([[0.0], [1.0], [2.0], [5.0], [9.0], [4.9]]), {0: 0})
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    query = dfal.CoreSet()(model, pool, 3, rng())
    assert query.indices.tolist() == [4, 5, 2]
    assert query.scores.tolist() == pytest.approx([9, 4.1, 2], rel=1e-5)
    robust = dfal.RobustCoreSet()(model, pool, 2, rng())
    assert robust.scores.tolist() == pytest.approx(
        [2, 2], rel=1e-5
    )  # 9, and 5 or 4.9: the image at 2 is left, 2 from 0
    assert robust.bound == robust.scores[0]
    outlier = dfal.RobustCoreSet(outliers=1)(model, pool, 1, rng())
    assert outlier.scores.tolist() == pytest.approx([2], rel=1e-5)
    assert int(outlier.indices[0]) in {3, 5}


def test_released_core_set_is_far_in_the_class_probabilities(
    trained: nn.Sequential, digits: Dataset
) -> None:
    """Beside a plain loop."""
    pool = dfal.Pool.new(digits.images.take(torch.arange(200)), {0: 0, 1: 1, 2: 2})
    query = dfal.CoreSet(softmax=True)(trained, pool, 8, rng())
    p = dfal.predict(trained, digits.images.take(torch.arange(200))).double().softmax(1)
    chosen, radii = [0, 1, 2], []
    for _ in range(8):
        gaps = torch.cdist(p, p[chosen]).min(1).values
        radii.append(float(gaps.max()))
        chosen.append(int(gaps.argmax()))
    assert query.indices.tolist() == chosen[3:]
    torch.testing.assert_close(
        query.scores.double(), torch.tensor(radii, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )
    assert query.indices.tolist() != dfal.CoreSet()(trained, pool, 8, rng()).indices.tolist()


def test_core_set_is_far_before_the_last_layer_unless_it_is_told_otherwise(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """As in the results of the paper's Table 1, though LeNet5 names other features."""
    rows = dfal.predict(trained[:-1], pool.images.take(torch.arange(60)))
    own = {
        named: farthest_first(rows_of[pool.unlabelled], rows_of[pool.labelled], 5)[0]
        for named, rows_of in (
            (False, rows),
            (True, dfal.features(trained, pool.images.take(torch.arange(60)))),
        )
    }
    for named, order in own.items():
        chosen = dfal.CoreSet(named=named)(trained, pool, 5, rng()).indices
        assert chosen.tolist() == pool.unlabelled[order].tolist()
    assert own[False].tolist() != own[True].tolist()
    with pytest.raises(dfal.DfalError, match="two places"):
        dfal.CoreSet(softmax=True, named=True)


@pytest.mark.parametrize("outliers", [0, 1, 2])
@settings(max_examples=25, deadline=None)
@given(st.lists(points, min_size=3, max_size=9), st.lists(points, max_size=2), st.integers(1, 3))
def test_k_centre_is_the_optimum(
    outliers: int, some: list[tuple[int, int]], given_centres: list[tuple[int, int]], k: int
) -> None:
    rows = torch.tensor(some).float()
    centres = torch.tensor(given_centres).float().view(-1, 2)
    found = k_centre(rows, centres, k, outliers=outliers)
    assert len(found.rows) == len(found.rows.unique()) == k
    assert found.radius == pytest.approx(optimum(rows, centres, k, outliers), abs=1e-5)
    assert found.bound == found.radius
    assert left_over(rows, centres, found.rows.tolist(), outliers) == pytest.approx(
        found.radius, abs=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0, 1000])
def test_k_centre_is_the_optimum_wherever_the_rows_lie(seed: int, offset: int) -> None:
    rows, centres = normal(9, 4, seed=seed) + offset, normal(2, 4, seed=seed + 100) + offset
    for given_centres in (centres, centres[:0]):
        found = k_centre(rows, given_centres, 3)
        assert found.radius == pytest.approx(optimum(rows, given_centres, 3), abs=1e-3)
        assert left_over(rows, given_centres, found.rows.tolist()) == pytest.approx(
            found.radius, abs=1e-3
        )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("outliers", [0, 2])
def test_k_centre_without_time_keeps_the_certified_radius_of_greedy(
    seed: int, outliers: int
) -> None:
    rows = normal(9, 2, seed=seed)
    found = k_centre(rows, NONE, 3, outliers=outliers, seconds=1e-9)
    picks = farthest_first(rows, NONE, 3)[0].tolist()
    assert sorted(found.rows.tolist()) == sorted(picks)
    assert found.radius == pytest.approx(left_over(rows, NONE, picks, outliers), abs=1e-3)
    assert found.bound - 1e-3 <= optimum(rows, NONE, 3, outliers) <= found.radius + 1e-3
    assert found.bound < found.radius


def test_k_centre_of_equal_rows() -> None:
    found = k_centre(torch.ones(6, 2), NONE, 6)
    assert sorted(found.rows.tolist()) == list(range(6))
    assert found.radius == found.bound == 0
