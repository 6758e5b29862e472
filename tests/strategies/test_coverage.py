"""ProbCover, MaxHerding and UHerding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dfal
from dfal.strategies.coverage import pure_radius, smallest_distance
from strategy_cases import apart, linear, normal, rng


@pytest.mark.parametrize("space", ["pixels", "features", "FILE"])
@pytest.mark.parametrize("kind", [dfal.TypiClust, dfal.ProbCover, dfal.MaxHerding, dfal.UHerding])
def test_first_labels_come_from_all_heaps(
    kind: type[dfal.TypiClust], space: str, tmp_path: Path, trained: nn.Sequential
) -> None:
    """Three heaps of digits, one of each class: the first three labels are one of each."""
    generator = rng(1)
    digits = torch.rand(3, 1, 28, 28, generator=generator).round()
    images = (
        digits.repeat_interleave(15, 0) + 0.05 * torch.rand(45, 1, 28, 28, generator=generator)
    ).clamp(0, 1)
    pool = dfal.Pool.new(images, {})
    if space == "FILE":
        space = str(tmp_path / "rows.npy")
        np.save(space, images.flatten(1).numpy())
    elif space == "features":
        trained = nn.Sequential(nn.Flatten(), linear(torch.eye(784).tolist()), nn.Linear(784, 10))
    query = kind(space=space)(trained, pool, 3, rng())
    assert sorted((query.indices // 15).tolist()) == [0, 1, 2]
    asked = pool.learn(query, query.indices // 15)
    again = kind(space=space)(trained, asked, 3, rng())
    assert not set(again.indices.tolist()) & set(query.indices.tolist())


def test_u_herding_covers_what_the_network_hesitates_about() -> None:
    sure, torn = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    pool = dfal.Pool.new(torch.cat([sure.repeat(6, 1), torn.repeat(4, 1)]), {})
    query = dfal.UHerding(space="pixels", sigma=0.1)(
        linear([[9.0, 0.0], [0.0, 9.0]]), pool, 1, rng()
    )
    assert int(query.indices[0]) >= 6
    assert float(query.scores[0]) == pytest.approx(4, abs=0.05)


def test_prob_cover_counts_what_lies_within_the_radius_on_the_unit_sphere(tmp_path: Path) -> None:
    """Angles: three 0.55 apart, which is further than 0.5; two 0.1 apart. Lengths do not count."""
    angles = torch.tensor([-0.55, 0.0, 0.55, 2.0, 2.1])
    lengths = torch.tensor([1.0, 3, 5, 1, 9]).unsqueeze(1)
    pool = dfal.Pool.new(torch.stack([angles.cos(), angles.sin()], dim=1) * lengths, {})
    np.save(tmp_path / "rows.npy", pool.images.array)
    for space in ("pixels", str(tmp_path / "rows.npy")):
        query = dfal.ProbCover(space=space, radius=0.5)(nn.Linear(2, 2), pool, 1, rng())
        assert int(query.indices[0]) in {3, 4}
        assert query.scores.tolist() == [2]


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
