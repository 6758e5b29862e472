"""What strategies compute from distances and probabilities, against brute force in float64."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dfal.strategies import selection
from dfal.strategies.badge import k_means_plus_plus
from dfal.strategies.batch_bald import batch_bald
from dfal.strategies.clusters import _draw_in_turn, most_typical
from dfal.strategies.core_set import k_centre
from dfal.strategies.coverage import gaussian, pure_radius, smallest_distance
from dfal.strategies.scores import mutual_information
from dfal.strategies.selection import cover, farthest_first, greedy, squared_distances, to_nearest

Array = NDArray[np.float64]
NONE = torch.empty(0, 2)
"""No centres in the plane."""

few_rows_per_block = pytest.mark.parametrize("block", [4096, 16])
points = st.tuples(st.integers(-5, 5), st.integers(-5, 5))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def apart(a: Tensor, b: Tensor) -> Array:
    """Distances in float64, from differences."""
    left, right = a.double().numpy(), b.double().numpy()
    found: Array = np.sqrt(np.square(left[:, None] - right[None]).sum(2))
    return found


def left_over(rows: Tensor, centres: Tensor, chosen: list[int], outliers: int = 0) -> float:
    """The radius within which all rows but the outliers have a centre or a chosen row."""
    nearest = np.sort(apart(rows, torch.cat([rows[chosen], centres])).min(1))
    return 0.0 if outliers >= len(rows) else float(nearest[len(rows) - 1 - outliers])


def optimum(rows: Tensor, centres: Tensor, k: int, outliers: int = 0) -> float:
    return min(
        left_over(rows, centres, list(chosen), outliers)
        for chosen in combinations(range(len(rows)), k)
    )


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


@pytest.mark.parametrize("centres", [0, 50])
def test_farthest_first_is_farthest_first_where_a_front_stands_for_the_rows(centres: int) -> None:
    assert_farthest_first(normal(12_000, 8), normal(centres, 8, seed=1), 200)


@pytest.mark.parametrize("centres", [0, 5])
def test_farthest_first_with_many_fronts(centres: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DISTANCE_ROWS", 16)
    fronts = 0

    def counted(rows: Tensor, to: Tensor) -> Tensor:
        nonlocal fronts
        fronts += 1
        return to_nearest(rows, to)

    monkeypatch.setattr(selection, "to_nearest", counted)
    assert_farthest_first(normal(5000, 2), normal(centres, 2, seed=1), 100)
    assert fronts > 5


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


def test_pure_radius_by_hand() -> None:
    rows, cluster = torch.tensor([[0.0], [1.0], [3.0], [10.0]]), torch.tensor([0, 0, 1, 1])
    for purity, radius in {1.0: 2.0, 0.95: 2.0, 0.75: 2.0, 0.5: 3.0, 0.25: 9.0}.items():
        assert pure_radius(rows, cluster, purity) == pytest.approx(radius, rel=1e-5)
    assert pure_radius(rows, cluster, 1.0) < 2, "a ball is impure from that distance on"
    assert pure_radius(rows, torch.zeros(4, dtype=torch.int64), 0.9) == 1


@pytest.mark.parametrize("purity", [0.5, 0.8, 0.9, 0.95, 1.0])
def test_balls_of_the_pure_radius_are_as_pure_as_asked_and_no_smaller(purity: float) -> None:
    rows, cluster = normal(60, 2), torch.randint(3, (60,), generator=rng())
    other = np.where((cluster.unsqueeze(1) == cluster).numpy(), np.inf, apart(rows, rows)).min(1)
    radius = pure_radius(rows, cluster, purity)
    # Near rows are apart by a difference of large squares: a processor's rounding changes the
    # fourth digit.
    assert (other > radius * 0.999).mean() >= purity - 1e-9
    assert (other > radius * 1.001).mean() < purity - 1e-9


def test_smallest_distance_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    assert smallest_distance(rows) == pytest.approx(1)
    assert smallest_distance(rows[:3]) == pytest.approx(5)
    for none in (rows[:2], rows[:1], rows[:0]):
        assert smallest_distance(none) == 1


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
