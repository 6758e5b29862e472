"""The loop of the paper: who is asked when, and what it costs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import dfal

LABELS = torch.arange(30) % 3


def pool(known: int = 3) -> dfal.Pool:
    return dfal.Pool.new(
        torch.randn(30, 4, generator=torch.Generator().manual_seed(0)),
        {i: int(LABELS[i]) for i in range(known)},
    )


class Oracle:
    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, indices: Tensor) -> Tensor:
        self.asked.append(indices.tolist())
        return LABELS[indices]


class Fits:
    """Remembers the pools and seeds that it is given."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.sizes: list[int] = []

    def __call__(self, pool: dfal.Pool, seed: int) -> nn.Module:
        self.seeds.append(seed)
        self.sizes.append(len(pool.labelled_data().labels))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Linear(4, 3)


def test_it_buys_exactly_the_annotations_asked_for() -> None:
    oracle, fits = Oracle(), Fits()
    rounds = list(
        dfal.active_learning(pool(), fits, dfal.Random(), oracle, annotations=15, batch=5)
    )
    assert [r.pool.annotations for r in rounds] == [3, 8, 13, 15]
    assert [len(asked) for asked in oracle.asked] == [5, 5, 2]
    assert [r.pool.round for r in rounds] == [0, 1, 2, 3]
    assert len(rounds[-1].query.indices) == 0


def test_a_round_is_yielded_before_the_oracle_is_asked() -> None:
    oracle = Oracle()
    next(dfal.active_learning(pool(), Fits(), dfal.Random(), oracle))
    assert oracle.asked == []


def test_without_a_budget_it_ends_with_a_network_trained_on_everything() -> None:
    fits = Fits()
    rounds = list(dfal.active_learning(pool(), fits, dfal.DFAL(twins=False), Oracle(), batch=10))
    assert rounds[-1].pool.annotations == 30
    assert fits.sizes == [3, 13, 23, 30]


def test_twins_are_trained_on_but_are_no_annotations() -> None:
    fits = Fits()
    rounds = list(
        dfal.active_learning(pool(), fits, dfal.DFAL(), Oracle(), annotations=13, batch=5)
    )
    assert [r.pool.annotations for r in rounds] == [3, 8, 13]
    assert fits.sizes == [3, 13, 23]


def test_answers_belong_to_the_images_that_were_asked_about() -> None:
    *_, last = dfal.active_learning(
        pool(), Fits(), dfal.Entropy(), Oracle(), annotations=20, batch=4
    )
    assert torch.equal(last.pool.labels[last.pool.labelled], LABELS[last.pool.labelled])


def test_every_round_and_every_seed_has_its_own_chance() -> None:
    fits = Fits()
    for seed in (0, 1):
        list(
            dfal.active_learning(
                pool(), fits, dfal.Random(), Oracle(), annotations=13, batch=5, seed=seed
            )
        )
    assert len(set(fits.seeds)) == 6


def test_a_pool_in_its_third_round_goes_on_as_if_never_stopped() -> None:
    whole = list(
        dfal.active_learning(
            pool(), Fits(), dfal.DFAL(candidates=10), Oracle(), annotations=23, batch=5
        )
    )
    rest = list(
        dfal.active_learning(
            whole[2].pool, Fits(), dfal.DFAL(candidates=10), Oracle(), annotations=23, batch=5
        )
    )
    assert [r.query.indices.tolist() for r in rest] == [r.query.indices.tolist() for r in whole[2:]]


def test_declined_images_are_not_asked_about_again_and_are_not_bought() -> None:
    declined: set[int] = set()

    def moody(indices: Tensor) -> Tensor:
        assert not declined & set(indices.tolist())
        first = torch.arange(len(indices)) < min(1, len(indices) - 1)
        declined.update(indices[first].tolist())
        return torch.where(first, dfal.DECLINED, LABELS[indices])

    *_, last = dfal.active_learning(pool(), Fits(), dfal.DFAL(), moody, annotations=12, batch=5)
    assert last.pool.annotations == 12
    assert len(declined) == 2
    assert not torch.isin(last.pool.labelled, torch.tensor(sorted(declined))).any()


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (
            lambda pool, k: dfal.Query(pool.unlabelled[: k + 2], torch.zeros(k + 2)),
            "queries 7 images, .* at most k = 5",
        ),
        (lambda pool, k: dfal.Query.nothing(), "queries 0 images"),
        (
            lambda pool, k: pool.unlabelled[:k],
            "the strategy returned Tensor, but a Query is needed",
        ),
        (
            lambda pool, k: dfal.Query(pool.labelled[:k], torch.zeros(3)),
            "image 0 was queried, but it is not unlabelled",
        ),
        (
            lambda pool, k: dfal.Query(pool.unlabelled[[0, 0]], torch.zeros(2)),
            "query has image 3 twice",
        ),
    ],
)
def test_a_question_that_is_none_is_refused_before_anybody_answers(
    question: Callable[[dfal.Pool, int], dfal.Query], sentence: str
) -> None:
    def strategy(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        return question(pool, k)

    oracle = Oracle()
    with pytest.raises(dfal.DfalError, match=sentence):
        next(dfal.active_learning(pool(), Fits(), strategy, oracle, annotations=23, batch=5))
    assert not oracle.asked


def test_a_score_is_needed_for_each_index() -> None:
    query = dfal.Query(torch.tensor([5, 6]), torch.zeros(2))
    object.__setattr__(
        query, "scores", torch.zeros(1)
    )  # the tests check shapes when it is made, people do not
    with pytest.raises(dfal.DfalError, match="gives 2 indices but 1 scores"):
        pool().validate(query, 2)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(dfal.DfalError, match="batch = 0 would query nothing"):
        next(dfal.active_learning(pool(), Fits(), dfal.Random(), Oracle(), batch=0))


def test_every_question_has_its_own_generator() -> None:
    seeds: list[int] = []

    def watch(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        seeds.append(rng.initial_seed())
        return dfal.Random()(model, pool, k, rng)

    for seed in (0, 1):
        list(
            dfal.active_learning(
                pool(), Fits(), watch, Oracle(), annotations=13, batch=5, seed=seed
            )
        )
    assert len(set(seeds)) == 4
