from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dfal.errors import DfalError
from dfal.pool import Pool
from dfal.query import DECLINED, UNKNOWN, Query

IMAGES = torch.arange(10.0).reshape(10, 1, 1, 1).expand(10, 1, 2, 2) / 10


def a_pool() -> Pool:
    return Pool.new(IMAGES, known={3: 1, 8: 0})


def ask(
    indices: Sequence[int],
    *,
    twinned: Sequence[int] | None = None,
    guessed: Sequence[int] | None = None,
    guesses: Sequence[int] | None = None,
    shift: float = 0.01,
) -> Query:
    """A question about these images, whose twins are the images moved by `shift`."""
    asked = torch.tensor(indices, dtype=torch.int64)
    return Query(
        asked,
        torch.zeros(len(asked)),
        twinned=None if twinned is None else torch.tensor(twinned, dtype=torch.int64),
        twins=None if twinned is None else IMAGES[torch.tensor(twinned, dtype=torch.int64)] + shift,
        guessed=None if guessed is None else torch.tensor(guessed, dtype=torch.int64),
        guesses=None if guesses is None else torch.tensor(guesses, dtype=torch.int64),
    )


def test_a_new_pool_knows_the_given_labels_and_nothing_else() -> None:
    pool = a_pool()
    assert pool.labels.tolist() == [UNKNOWN] * 3 + [1] + [UNKNOWN] * 4 + [0, UNKNOWN]
    assert pool.labelled.tolist() == [3, 8]
    assert pool.unlabelled.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
    assert (pool.annotations, pool.labelled_data_size, pool.round) == (2, 2, 0)


def test_a_pool_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        a_pool().round = 3  # type: ignore[misc]


def test_learning_moves_exactly_the_asked_images_whatever_their_order() -> None:
    pool = a_pool().learn(ask([7, 2]), [4, 0])
    assert pool.labelled.tolist() == [2, 3, 7, 8]
    assert pool.labels[[7, 2, 3, 8]].tolist() == [4, 0, 1, 0]
    assert pool.unlabelled.tolist() == [0, 1, 4, 5, 6, 9]
    assert (pool.annotations, pool.round) == (4, 1)


@pytest.mark.parametrize("answers", [[4, 0], torch.tensor([4, 0]), np.array([4, 0], np.uint8)])
def test_answers_may_be_a_list_a_tensor_or_an_array(answers: Any) -> None:
    assert a_pool().learn(ask([7, 2]), answers).labels[[7, 2]].tolist() == [4, 0]


def test_the_old_pool_stays_as_it_was() -> None:
    old = a_pool().learn(ask([1], twinned=[1], guessed=[9], guesses=[2]), [2])
    fields = ("labels", "twinned", "twins", "guessed", "guesses")
    before = {name: getattr(old, name).clone() for name in fields}
    old.learn(ask([7, 2], twinned=[7, 2], guessed=[4], guesses=[1]), [4, 0])
    assert old.round == 1
    assert all(torch.equal(getattr(old, name), before[name]) for name in fields)


def test_a_twin_inherits_the_answer_of_its_image() -> None:
    data = a_pool().learn(ask([7, 2, 5], twinned=[2, 7]), [4, 0, 3]).labelled_data()
    twins = (data.images != IMAGES[data.source]).flatten(1).any(1)
    assert data.source[twins].tolist() == [2, 7]
    assert data.labels[twins].tolist() == [0, 4]


def test_twins_stay_in_later_rounds() -> None:
    pool = a_pool().learn(ask([7], twinned=[7]), [4]).learn(ask([2], twinned=[2], shift=0.02), [1])
    assert pool.twinned.tolist() == [7, 2]
    assert torch.equal(pool.twins, torch.stack([IMAGES[7] + 0.01, IMAGES[2] + 0.02]))


def test_a_declined_image_leaves_u_without_an_annotation_and_without_twins() -> None:
    pool = a_pool().learn(ask([7, 2], twinned=[7, 2]), [DECLINED, 0])
    assert 7 not in pool.unlabelled
    assert 7 not in pool.labelled
    assert pool.labels[7] == DECLINED
    assert pool.twinned.tolist() == [2]
    assert (pool.annotations, pool.labelled_data_size) == (3, 4)
    assert 7 not in pool.labelled_data().source


def test_guesses_hold_for_one_round_and_are_no_annotations() -> None:
    pool = a_pool().learn(ask([7], guessed=[0, 9], guesses=[2, 1]), [4])
    assert (pool.annotations, pool.labelled_data_size) == (3, 5)
    assert pool.labels[[0, 9]].tolist() == [UNKNOWN, UNKNOWN]
    assert {0, 9} <= set(pool.unlabelled.tolist())
    data = pool.labelled_data()
    assert dict(zip(data.source.tolist(), data.labels.tolist(), strict=True)) == {
        3: 1,
        7: 4,
        8: 0,
        0: 2,
        9: 1,
    }
    later = pool.learn(ask([0]), [3])
    assert later.labelled_data_size == later.annotations == 4
    assert later.labels[0] == 3


def test_with_a_twin_for_each_answer_labelled_data_are_twice_the_annotations_less_the_first() -> (
    None
):
    pool = Pool.new(torch.rand(60, 1, 2, 2), known={index: index % 3 for index in range(10)})
    for _ in range(4):
        asked = pool.unlabelled[-10:]
        twins = pool.images.take(asked) + 0.5
        pool = pool.learn(Query(asked, torch.zeros(10), twinned=asked, twins=twins), asked % 3)
        assert (
            pool.labelled_data_size == 2 * pool.annotations - 10 == len(pool.labelled_data().labels)
        )
    assert pool.annotations == 50


def test_each_row_of_the_labelled_data_is_the_image_the_label_and_the_source_of_one_thing() -> None:
    pool = a_pool().learn(ask([7, 2], twinned=[2, 7], guessed=[5, 0], guesses=[3, 4]), [4, 0])
    data = pool.labelled_data()
    assert data.source.tolist() == [2, 3, 7, 8, 2, 7, 5, 0]
    assert data.labels.tolist() == [0, 1, 4, 0, 0, 4, 3, 4]
    expected = torch.cat([IMAGES[[2, 3, 7, 8]], IMAGES[[2, 7]] + 0.01, IMAGES[[5, 0]]])
    assert torch.equal(data.images, expected)


def test_a_question_about_nothing_is_learnt_too() -> None:
    pool = a_pool().learn(Query.nothing(), [])
    assert (pool.annotations, pool.round) == (2, 1)


@pytest.mark.parametrize(
    ("query", "answers", "named"),
    [
        pytest.param(ask([7, 2]), [0], "2 images .* 1 answers", id="too few answers"),
        pytest.param(
            ask([7, 2]), torch.tensor([[0, 1]]), "2 images", id="answers of another shape"
        ),
        pytest.param(ask([7, 2, 7]), [0, 0, 0], r"image 7\b.*twice", id="an image twice"),
        pytest.param(ask([2, 42]), [0, 0], r"image 42\b.*outside", id="an image past the end"),
        pytest.param(ask([2, -5]), [0, 0], r"image -5\b.*outside", id="an image before the start"),
        pytest.param(
            ask([7, 3]),
            [0, 0],
            r"image 3 was queried, but it is not unlabelled",
            id="an image of L",
        ),
        pytest.param(ask([7]), [UNKNOWN], "answer -1 for image 7", id="−1 as an answer"),
        pytest.param(ask([2, 7]), [0, -3], "answer -3 for image 7", id="a negative answer"),
        pytest.param(ask([2, 7]), torch.tensor([0, 1.5]), "1.5", id="half a class"),
        pytest.param(
            ask([7, 2], twinned=[7, 6]),
            [0, 0],
            r"image 6\b",
            id="a twin of an image not asked about",
        ),
        pytest.param(
            ask([7, 2], guessed=[0, 2], guesses=[1, 1]),
            [0, 0],
            r"image 2\b.*both",
            id="a guess that is asked about",
        ),
        pytest.param(
            ask([7], guessed=[8], guesses=[1]),
            [0],
            r"image 8 was pseudo-labelled",
            id="a guess of an image of L",
        ),
        pytest.param(
            ask([7], guessed=[42], guesses=[1]),
            [0],
            r"image 42\b.*outside",
            id="a guess past the end",
        ),
        pytest.param(
            ask([7], guessed=[0], guesses=[-1]),
            [0],
            r"-1\b.*image 0\b",
            id="a guess that is no class",
        ),
        pytest.param(ask([7], guessed=[0]), [0], "guesses", id="guessed images without guesses"),
        pytest.param(
            Query(torch.tensor([7]), torch.zeros(1), twins=torch.zeros(1, 1, 2, 2)),
            [0],
            "twinned",
            id="twins of nobody",
        ),
        pytest.param(
            Query(
                torch.tensor([7]),
                torch.zeros(1),
                twinned=torch.tensor([7]),
                twins=torch.zeros(1, 1, 3, 3),
            ),
            [0],
            r"3, 3\)",
            id="twins of another shape",
        ),
    ],
)
def test_wrong_use_is_one_sentence_that_names_the_value(
    query: Query, answers: Any, named: str
) -> None:
    with pytest.raises(DfalError, match=named) as raised:
        a_pool().learn(query, answers)
    assert "\n" not in str(raised.value)


def test_an_image_that_was_declined_cannot_be_asked_about_again() -> None:
    pool = a_pool().learn(ask([7]), [DECLINED])
    with pytest.raises(DfalError, match="image 7 was queried, but it is not unlabelled"):
        pool.learn(ask([7]), [0])


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ({0: 1, 10: 1}, r"known\[10\].* 0 to 9"),
        ({0: 1, -1: 1}, r"known\[-1\]"),
        ({0: 1, 4: UNKNOWN}, r"known\[4\] = -1"),
        ({0: 1, 4: DECLINED}, r"known\[4\] = -2"),
        ({0: 1, 4: 1.5}, r"known\[4\] = 1.5"),
    ],
)
def test_known_labels_that_cannot_be_are_named(known: dict[int, Any], named: str) -> None:
    with pytest.raises(DfalError, match=named):
        Pool.new(IMAGES, known)


def test_a_pool_of_bad_images_is_refused() -> None:
    with pytest.raises(DfalError, match="image 1 holds NaN"):
        Pool.new(torch.tensor([[0.0], [torch.nan]]), known={})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_l_u_and_the_declined_always_divide_the_pool(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    label = st.integers(0, 3)
    labels: dict[int, int] = data.draw(st.dictionaries(st.integers(0, n - 1), label))
    pool = Pool.new(torch.rand(n, 1, 2), labels)
    twinned: list[int] = []
    for round in range(data.draw(st.integers(0, 4))):
        left = data.draw(st.permutations(pool.unlabelled.tolist()))
        asked = left[: data.draw(st.integers(0, len(left)))]
        answers = [data.draw(label | st.just(DECLINED)) for _ in asked]
        twins = [index for index in asked if data.draw(st.booleans())]
        guessed = [index for index in left[len(asked) :] if data.draw(st.booleans())]
        query = Query(
            _integers(asked),
            torch.rand(len(asked)),
            twinned=_integers(twins),
            twins=torch.rand(len(twins), 1, 2),
            guessed=_integers(guessed),
            guesses=_integers([0] * len(guessed)),
        )
        pool = pool.learn(query, answers)

        labels |= dict(zip(asked, answers, strict=True))
        twinned += [index for index in twins if labels[index] >= 0]
        annotated = {index for index, one in labels.items() if one >= 0}
        assert set(pool.labelled.tolist()) == annotated
        assert set(pool.unlabelled.tolist()) == set(range(n)) - set(labels)
        assert all(int(pool.labels[index]) == one for index, one in labels.items())
        assert pool.twinned.tolist() == twinned
        assert pool.annotations == len(annotated)
        assert (
            pool.labelled_data_size
            == len(annotated) + len(twinned) + len(guessed)
            == len(pool.labelled_data().images)
        )
        assert pool.round == round + 1


def _integers(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
