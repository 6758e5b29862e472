"""Choices of rows beside plain loops over distances."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dfal.strategies import selection
from dfal.strategies.coverage import gaussian
from dfal.strategies.selection import cover, farthest_first, greedy, squared_distances, to_nearest
from strategy_cases import NONE, Array, apart, left_over, normal, optimum, points, rng

few_rows_per_block = pytest.mark.parametrize("block", [4096, 16])


def assert_farthest_first(rows: Tensor, centres: Tensor, k: int) -> None:
    """No row was farther than the one that was picked, but for rounding."""
    picks, radii = farthest_first(rows, centres, k)
    assert len(picks.unique()) == k
    if len(centres):
        nearest = np.min([apart(rows, one.unsqueeze(0))[:, 0] for one in centres], axis=0)
    else:
        nearest = np.full(len(rows), np.inf)
    for pick, radius in zip(picks.tolist(), radii.tolist(), strict=True):
        assert nearest[pick] >= nearest.max() * (1 - 1e-5)
        assert radius == pytest.approx(nearest[pick], rel=1e-4)
        nearest = np.minimum(nearest, apart(rows, rows[pick : pick + 1])[:, 0])


def covering(kernel: Array, start: Array, weights: Array, k: int) -> tuple[list[int], list[float]]:
    """Plain greedy on the whole kernel matrix; the earlier row wins a tie."""
    covered = start
    picks: list[int] = []
    added: list[float] = []
    for _ in range(k):
        gains = weights @ np.maximum(kernel - covered[:, None], 0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        added.append(float(gains[picks[-1]]))
        covered = np.maximum(covered, kernel[:, picks[-1]])
    return picks, added


def top_hat(squared: Tensor) -> Tensor:
    return (squared <= 0.7).float()


def smooth(squared: Tensor) -> Tensor:
    return gaussian(squared, 0.5)


@pytest.mark.parametrize("centres", [0, 50])
def test_farthest_first_is_farthest_first_where_a_front_stands_for_the_rows(centres: int) -> None:
    assert_farthest_first(normal(12_000, 8), normal(centres, 8, seed=1), 200)


@pytest.mark.parametrize("centres", [0, 5])
def test_farthest_first_with_many_fronts(centres: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DISTANCE_ROWS", 16)
    fronts = 0

    def counted(rows: Tensor, to: Tensor, shift: Tensor | None = None) -> Tensor:
        nonlocal fronts
        fronts += 1
        return to_nearest(rows, to, shift)

    monkeypatch.setattr(selection, "to_nearest", counted)
    assert_farthest_first(normal(5000, 2), normal(centres, 2, seed=1), 100)
    assert fronts > 5


@pytest.mark.parametrize("centres", [0, 6])
def test_farthest_first_is_the_plain_greedy_to_the_bit(
    centres: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whole numbers with the mean 0, whose distances are exact in any order of adding up."""
    monkeypatch.setattr(selection, "DISTANCE_ROWS", 16)
    some, pairs = (normal(799, 24) * 15).round(), (normal(centres, 24, seed=1) * 15).round()
    rows, to = torch.cat([some, -some.sum(0, keepdim=True)]), torch.cat([pairs, -pairs])
    before = rows.clone()
    far = to_nearest(rows, to)
    picks: list[int] = []
    radii: list[float] = []
    for _ in range(50):
        picks.append(int(far.argmax()) if len(to) or picks else 0)
        radii.append(float(far[picks[-1]]))
        assert (far == far.max()).sum() == 1 or not (len(to) or picks[1:]), "no ties"
        far = torch.minimum(far, (rows - rows[picks[-1]]).square().sum(1))
    found = farthest_first(rows, to, 50)
    assert found[0].tolist() == picks
    assert torch.equal(found[1], torch.tensor(radii).sqrt())
    assert torch.equal(rows, before), "the rows are the caller's"


def test_farthest_first_of_rows_far_from_the_origin() -> None:
    assert_farthest_first(normal(300, 3) + 1000, normal(4, 3, seed=1) + 1000, 20)


def test_farthest_first_on_a_line() -> None:
    line = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    picks, radii = farthest_first(line, line[:0], 4)
    assert picks.tolist() == [0, 3, 2, 1]
    torch.testing.assert_close(radii, torch.tensor([math.inf, 10.0, 4.0, 1.0]))
    picks, radii = farthest_first(line, torch.tensor([[8.5], [3.0]]), 2)
    assert picks.tolist() == [0, 3]
    torch.testing.assert_close(radii, torch.tensor([3.0, 1.5]))


@few_rows_per_block
@pytest.mark.parametrize("k", [10, 200])
def test_farthest_first_of_equal_rows_takes_distinct_ones(
    k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "DISTANCE_ROWS", block)
    rows = normal(1, 4).repeat(200, 1)
    for centres in (rows[:0], rows[:1]):
        picks, radii = farthest_first(rows, centres, k)
        assert len(picks.unique()) == k
        assert radii[1:].max() < 1e-3
        assert radii[0] < 1e-3 or not len(centres)


def test_farthest_first_of_few_different_rows_takes_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where all that is left lies on chosen rows, and a new front is taken."""
    monkeypatch.setattr(selection, "DISTANCE_ROWS", 16)
    some = (normal(59, 8) * 20).round()
    rows = torch.cat([some, -some.sum(0, keepdim=True)]).repeat(9, 1)  # their mean is 0
    picks, radii = farthest_first(rows, rows[:0], 66)
    assert len(picks.unique()) == 66
    assert len(rows[picks[:60]].unique(dim=0)) == 60
    assert radii[60:].tolist() == [0] * 6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(points, min_size=3, max_size=8),
    st.lists(points, min_size=1, max_size=3),
    st.integers(1, 3),
)
def test_farthest_first_leaves_at_most_twice_the_smallest_radius(
    some: list[tuple[int, int]], given_centres: list[tuple[int, int]], k: int
) -> None:
    rows, centres = torch.tensor(some).float(), torch.tensor(given_centres).float()
    picks, _ = farthest_first(rows, centres, k)
    assert left_over(rows, centres, picks.tolist()) <= 2 * optimum(rows, centres, k) + 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1000), st.floats(1e-3, 10))
def test_squared_distances_are_never_negative_and_as_exact_as_promised(
    seed: int, offset: float, scale: float
) -> None:
    rows = normal(20, 6, seed=seed) * scale + offset
    found = squared_distances(rows[:12], rows)
    assert found.min() >= 0
    largest = 2 * float(rows.square().sum(1).max())
    np.testing.assert_allclose(
        found.numpy(), np.square(apart(rows[:12], rows)), rtol=0, atol=2e-6 * largest
    )


@few_rows_per_block
def test_to_nearest_is_the_smallest_distance(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DISTANCE_ROWS", block)
    rows, centres = normal(100, 3), normal(37, 3, seed=1)
    np.testing.assert_allclose(
        to_nearest(rows, centres).numpy(), np.square(apart(rows, centres)).min(1), atol=1e-5
    )
    assert to_nearest(rows, centres[:0]).isinf().all()


@few_rows_per_block
@pytest.mark.parametrize("kernel", [top_hat, smooth])
@pytest.mark.parametrize("centres", [0, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_cover_is_greedy_on_the_whole_kernel_matrix(
    kernel: Callable[[Tensor], Tensor],
    centres: int,
    weighted: bool,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "DISTANCE_ROWS", block)
    monkeypatch.setattr(selection, "REFRESHED_ROWS", 8)
    rows, given_centres = normal(150, 2), normal(centres, 2, seed=1)
    weights = torch.randint(1, 5, (150,), generator=rng()).float() if weighted else None
    matrix = kernel(torch.from_numpy(np.square(apart(rows, rows)))).double().numpy()
    start = np.zeros(150)
    if centres:
        start = (
            kernel(torch.from_numpy(np.square(apart(rows, given_centres)))).double().numpy().max(1)
        )
    picks, added = cover(rows, given_centres, 15, kernel=kernel, weights=weights)
    want, gains = covering(
        matrix, start, np.ones(150) if weights is None else weights.double().numpy(), 15
    )
    assert picks.tolist() == want
    np.testing.assert_allclose(added.numpy(), gains, rtol=1e-3, atol=1e-4)
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(added.tolist()))


@pytest.mark.parametrize("kernel", [top_hat, smooth])
def test_cover_of_equal_rows_takes_distinct_ones(kernel: Callable[[Tensor], Tensor]) -> None:
    rows = torch.full((150, 2), 0.5)
    picks, added = cover(rows, NONE, 150, kernel=kernel)
    assert sorted(picks.tolist()) == list(range(150))
    assert added[0] == pytest.approx(150)
    assert added[1:].max() < 1e-3


def test_cover_of_two_copies_of_each_row_takes_both_in_the_end() -> None:
    rows = normal(80, 2).repeat(2, 1)
    for kernel in (top_hat, smooth):
        picks, added = cover(rows, NONE, 160, kernel=kernel)
        assert sorted(picks.tolist()) == list(range(160))
        assert added.min() >= 0


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_greedy_ends_where_all_gains_are_tied(gain: float) -> None:
    asked = 0

    def gains(rows: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        assert asked < 2000, "greedy asks for ever"
        return torch.full((len(rows),), gain)

    told: list[int] = []
    picks, gained = greedy(300, 300, gains, told.append)
    assert picks.tolist() == told == list(range(300))
    assert gained.unique().tolist() == [gain]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.03, 0.3]))
def test_greedy_is_plain_greedy_though_it_computes_fewer_gains(seed: int, density: float) -> None:
    n, things = 300, 80
    sets = torch.rand(n, things, generator=rng(seed)) < density
    worth = torch.randint(1, 9, (things,), generator=rng(seed + 1)).float()
    have = torch.zeros(things, dtype=torch.bool)
    computed = 0

    def gains(rows: Tensor) -> Tensor:
        nonlocal computed
        computed += len(rows)
        return (sets[rows] & ~have).float() @ worth

    def choose(row: int) -> None:
        have.logical_or_(sets[row])

    picks, gained = greedy(n, 20, gains, choose)
    lazily = computed
    have.zero_()
    for pick, gain in zip(picks.tolist(), gained.tolist(), strict=True):
        all_gains = gains(torch.arange(n))
        all_gains[picks[: picks.tolist().index(pick)]] = -1
        assert (pick, gain) == (int(all_gains.argmax()), float(all_gains.max()))
        choose(pick)
    assert lazily <= computed
    have.zero_()
    assert sorted(greedy(n, n, gains, choose)[0].tolist()) == list(range(n))
