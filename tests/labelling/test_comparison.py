"""Which model is better, by labels of images that one of them chose."""

import numpy as np
import pytest
from jaxtyping import Int64

from dfal.labelling.learning import learners
from dfal.labelling.learning.comparison import (
    Validation,
    is_better,
    leaves_little,
    most_accurate,
)

N = 20_000


def simulated(
    rng: np.random.Generator, advantage: float, labels: int, *, hard: bool
) -> tuple[Validation, Validation]:
    """Return a model and the one in use, which is right on the images that it is certain of.

    It is right on nine images of ten. The other model is right by chance, more often than it by an
    advantage. Labelled are images at random, or one half of them those of which the one in use is
    least certain.
    """
    margin = rng.random(N)
    old = rng.random(N) < np.clip(0.6 + 0.6 * margin, 0, 1)
    new = rng.random(N) < old.mean() + advantage
    order = rng.permutation(N)
    given = np.full(N, -1)
    given[order[: labels // 2 if hard else labels]] = 0
    if hard:
        given[np.argsort(margin)[: labels - labels // 2]] = 0
    images = np.arange(N)
    return (
        Validation(images, given, np.where(new, 0, 1), rng.random(N)),
        Validation(images, given, np.where(old, 0, 2), margin),
    )


def chosen(advantage: float, labels: int, *, hard: bool) -> float:
    """Return how often the other one is said to be better."""
    rngs = [np.random.default_rng(seed) for seed in range(50)]
    pairs = [simulated(rng, advantage, labels, hard=hard) for rng in rngs]
    return float(np.mean([is_better(new, old) for new, old in pairs]))


@pytest.mark.parametrize("hard", [False, True])
def test_equal_models_are_seldom_changed_even_where_one_chose_the_images(hard: bool) -> None:
    assert chosen(0.0, 100, hard=hard) <= 0.1
    assert chosen(-0.03, 200, hard=hard) <= 0.04


def test_labels_of_hard_images_alone_would_mislead() -> None:
    new, old = simulated(np.random.default_rng(0), 0.0, 200, hard=True)
    assert new.right > old.right + 10


@pytest.mark.parametrize("hard", [False, True])
def test_a_better_model_is_taken(hard: bool) -> None:
    assert chosen(0.08, 300, hard=hard) > 0.8


def agreeing(images: Int64[np.ndarray, "n"], right: int) -> Validation:
    """Return labelled images of which the first ones are predicted."""
    labels = np.zeros(len(images), np.int64)
    return Validation(images, labels, (np.arange(len(images)) >= right) * 1, np.ones(len(images)))


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [(20, 10, True), (12, 10, False), (10, 20, False), (20, 20, False), (15, 10, True)],
)
def test_without_unlabelled_images_the_labels_are_compared(
    new: int, old: int, expected: bool
) -> None:
    images = np.arange(20)
    assert is_better(agreeing(images, new), agreeing(images, old)) == expected


def test_validations_are_compared_on_the_images_of_both() -> None:
    few = agreeing(np.array([3, 7, 9, 11, 12]), 5)
    predicted = np.isin(np.arange(20), [0, 1, 2, 4, 5, 6, 8, 10])
    many = Validation(np.arange(20), np.zeros(20, np.int64), 1 - predicted * 1, np.ones(20))
    assert is_better(few, many), "wrong on all five"
    assert not is_better(many, few)


def test_a_network_from_scratch_is_taken_and_left_on_folds_alone() -> None:
    images = np.arange(60)
    poor, fair, good = (agreeing(images, right) for right in (30, 45, 60))
    left_out = {"lite2": good, "lite2+pixels": fair}
    assert most_accurate("lite2", left_out, {}) == "lite2"
    assert most_accurate("lite2+pixels", left_out, {}) == "lite2"
    assert most_accurate("none", left_out, {}) == "lite2"
    assert most_accurate("lite2", left_out, {"lite2": fair, "none": good}) == "none"
    assert most_accurate("lite2", left_out, {"lite2": fair, "none": fair}) == "lite2"
    assert most_accurate("none", left_out, {"lite2": fair, "none": fair}) == "none"
    assert most_accurate("none", left_out, {"lite2": good, "none": poor}) == "lite2"


def test_a_network_from_every_image_is_taken_for_a_few_labels_that_it_alone_predicts() -> None:
    images = np.arange(60)
    most, all_but_one, every = (agreeing(images, right) for right in (57, 59, 60))
    for current, other, expected in (
        ("lite2", most, "none+unlabelled"),
        ("lite2", all_but_one, "lite2"),
        ("none+unlabelled", all_but_one, "none+unlabelled"),
    ):
        folds = {"lite2": other, "none": other, "none+unlabelled": every}
        assert most_accurate(current, {"lite2": other}, folds) == expected
    folds = {"lite2": every, "none": most, "none+unlabelled": most}
    assert most_accurate("none+unlabelled", {"lite2": every}, folds) == "lite2"
    folds = {"lite2": most, "none": every}
    assert most_accurate("lite2", {"lite2": most}, folds) == "lite2", (
        "a network from scratch is not"
    )


def test_before_labels_can_tell_a_network_from_every_image_is_taken_on_pixels() -> None:
    images = np.arange(16)
    some, most, every = (agreeing(images, right) for right in (10, 15, 16))
    for current in ("pixels", "none", "none+unlabelled"):
        for pixels, network, expected in (
            (every, every, "none+unlabelled"),
            (every, most, "none+unlabelled"),
            (every, some, "pixels"),
        ):
            folds = {"pixels": pixels, "none": some, "none+unlabelled": network}
            assert most_accurate(current, {"pixels": pixels}, folds) == expected
    folds = {"pixels": some, "none": every, "none+unlabelled": most}
    assert most_accurate("none", {"pixels": some}, folds) == "none+unlabelled"
    folds = {"lite2": every, "none": some, "none+unlabelled": every}
    assert most_accurate("lite2", {"lite2": every}, folds) == "lite2", "it has seen other images"


def test_the_reason_says_where_the_labels_do_not_tell() -> None:
    images = np.arange(17)
    for network, end in ((17, "(pixels)"), (15, "(pixels), which does not speak against it")):
        folds = {
            "pixels": agreeing(images, 16),
            "none": agreeing(images, 10),
            "none+unlabelled": agreeing(images, network),
        }
        assert learners._gain(folds, 3182) == (
            "the network learns from 3,182 images without a label, too:"
            f" {network} of 17 labels are predicted in cross-validation, 16 without them {end}"
        )


@pytest.mark.parametrize(
    ("name", "right", "labels", "expected"),
    [
        ("lite2", 17, 17, True),
        ("lite2", 16, 17, False),
        ("pixels", 17, 17, False),
        ("none", 49, 49, False),
        ("none", 49, 50, True),
        ("pixels", 48, 50, False),
    ],
)
def test_a_few_labels_that_pixels_predict_do_not_leave_little(
    name: str, right: int, labels: int, expected: bool
) -> None:
    assert leaves_little(name, agreeing(np.arange(labels), right)) == expected
