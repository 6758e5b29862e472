"""Votes, corrections and open questions against a plain recount after each change."""

import numpy as np
import pytest

from dfal.labelling.store.annotations import Annotations, majority
from dfal.labelling.store.records import Question
from dfal.query import DECLINED, UNKNOWN


@pytest.mark.parametrize(
    ("votes", "needed", "label"),
    [
        ([], 1, None),
        ([1], 2, None),
        ([1], 1, 1),
        ([DECLINED], 1, DECLINED),
        # Two people: whoever skips abstains, and a tie waits for one more, up to five people.
        ([0, 0], 2, 0),
        ([0, 1], 2, None),
        ([0, DECLINED], 2, 0),
        ([DECLINED, 1], 2, 1),
        ([DECLINED, DECLINED], 2, DECLINED),
        ([0, 1, 1], 2, 1),
        ([0, 1, 2], 2, None),
        ([0, 1, DECLINED], 2, None),
        ([0, 1, DECLINED, 0], 2, 0),
        ([0, 1, 2, 2], 2, 2),
        ([0, 1, 0, 1], 2, None),
        ([0, 1, 0, 1, 1], 2, 1),
        ([0, 1, 0, 1, DECLINED], 2, DECLINED),
        ([0, 1, DECLINED, DECLINED, DECLINED], 2, DECLINED),
        # Three people, up to seven.
        ([0, 0], 3, None),
        ([0, 1, 1], 3, 1),
        ([0, 1, 2], 3, None),
        ([0, 1, DECLINED], 3, None),
        ([0, DECLINED, DECLINED], 3, 0),
        ([DECLINED, DECLINED, DECLINED], 3, DECLINED),
        ([0, 1, 2, 0], 3, 0),
        ([0, 1, 2, 0, 1, 2], 3, None),
        ([0, 1, 2, 0, 1, 2, 2], 3, 2),
        ([0, 1, 2, 0, 1, 2, DECLINED], 3, DECLINED),
        ([2, 2, 0, 0, 1], 5, None),
        # One person: their answer, whatever it is.
        ([0, 1], 1, None),
        ([0, 1, 1], 1, 1),
        ([0, 1, 2], 1, DECLINED),
    ],
)
def test_a_majority_is_one_class_that_most_gave(
    votes: list[int], needed: int, label: int | None
) -> None:
    assert majority(votes, needed) == label


def assert_recounted(state: Annotations) -> None:
    """What is kept up to date is what a loop over all images comes to."""
    for image in range(len(state.labels)):
        votes = list(state.votes.get(image, {}).values())
        voted = majority(votes, state.votes_needed)
        label = state.corrected.get(image, state.prelabelled[image] if voted is None else voted)
        assert state.labels[image] == label
        assert (image in state.undecided) == (bool(votes) and label == UNKNOWN)
        asking = [question.id for question in state.open.values() if question.image == image]
        assert sorted(state.open_by_image.get(image, [])) == sorted(asking)
        queried = bool(votes or asking)
        assert (image in state.queried) == queried
        assert (image in state.queried_hold_out) == (queried and bool(state.hold_out[image]))


@pytest.mark.parametrize("seed", range(5))
def test_labels_and_counts_are_those_of_a_recount_whatever_happens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = Annotations()
    state.prelabelled = np.where(rng.random(8) < 0.2, 1, UNKNOWN)
    state.labels = state.prelabelled.copy()
    state.hold_out = (rng.random(8) < 0.5) & (state.labels == UNKNOWN)
    for step in range(300):
        image, label = int(rng.integers(8)), int(rng.choice([0, 1, 2, DECLINED]))
        change = rng.integers(100)
        if change < 40:
            state.vote(image, f"p{rng.integers(4)}", None if change < 10 else label)
        elif change < 55:
            state.correct(image, None if change < 50 else label)
        elif change < 75:
            state.add_question(Question(step, image, "random", None, None, "p", "c", 0.0, 1.0))
        elif change < 95:
            state.close(int(rng.choice([*state.open, step])))
        elif change < 97:
            state.prelabel(image, max(label, 0))
        else:
            state.need_votes(int(rng.integers(1, 4)))
        assert_recounted(state)
