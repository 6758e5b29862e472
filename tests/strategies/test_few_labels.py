"""First labels by clusters, then coverage of what is uncertain."""

import pytest
import torch
from torch import nn

import dfal
from dfal.errors import DfalError
from dfal.strategies.few_labels import FewLabels
from strategy_cases import linear, rng


def heaps(sizes: list[int]) -> torch.Tensor:
    """Return rows around as many axes as there are sizes, that many around each."""
    of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return torch.eye(len(sizes) + 2)[of] + 0.05 * torch.rand(
        len(of), len(sizes) + 2, generator=rng(3)
    )


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_each_cluster_is_queried_before_any_of_them_again(at_once: int) -> None:
    """One at a time or all at once: the first three are of three heaps, the largest first."""
    images = heaps([10, 40, 20])
    of = [0] * 10 + [1] * 40 + [2] * 20
    pool = dfal.Pool.new(images, {})
    asked: list[int] = []
    while len(asked) < 3:
        query = FewLabels()(nn.Linear(5, 3), pool, at_once, rng(len(asked)))
        asked += query.indices.tolist()
        pool = pool.learn(query, [of[image] for image in query.indices.tolist()])
    assert [of[image] for image in asked[:3]] == [1, 2, 0]


def test_a_smaller_query_is_the_beginning_of_a_larger_one() -> None:
    pool = dfal.Pool.new(heaps([30, 30, 30]), {3: 0})
    model = nn.Linear(5, 3)
    whole = FewLabels()(model, pool, 12, rng()).indices.tolist()
    for k in (1, 2, 5):
        assert FewLabels()(model, pool, k, rng()).indices.tolist() == whole[:k]


def test_with_many_labels_uncertain_images_are_covered_and_with_few_the_pool() -> None:
    """Certain: 60 rows about an axis; torn: 8 rows between two axes."""
    certain = torch.tensor([[1.0, 0.0]]).repeat(60, 1)
    torn = torch.tensor([[1.0, 1.0]]).repeat(8, 1)
    labelled = torch.tensor([[0.0, 1.0]]).repeat(4, 1)
    pool = dfal.Pool.new(torch.cat([certain, torn, labelled]), dict.fromkeys(range(68, 72), 1))
    model = linear([[9.0, 0.0], [0.0, 9.0]])
    many = FewLabels(sigma=0.1, labels=1)(model, pool, 1, rng())
    assert 60 <= int(many.indices[0]) < 68
    few = FewLabels(sigma=0.1, labels=1e6)(model, pool, 1, rng())
    assert int(few.indices[0]) < 60


def test_declined_images_are_in_no_cluster() -> None:
    pool = dfal.Pool.new(heaps([30, 5]), {})
    out = dfal.Query(torch.arange(30), torch.zeros(30))
    pool = pool.learn(out, [dfal.query.DECLINED] * 30)
    query = FewLabels()(nn.Linear(4, 2), pool, 2, rng())
    assert (query.indices >= 30).all()


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"labels": 0.0}, {"space": "nowhere"}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DfalError):
        FewLabels(**wrong)  # type: ignore[arg-type]
