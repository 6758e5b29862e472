"""Folds of the labelled images: no network is judged by a class that it was not told of."""

import numpy as np
import pytest
import torch
from torch import nn

from dfal.data.image_array import Images
from dfal.labelling.learning.cross_validation import FOLDS, cross_fit
from dfal.labelling.learning.learner import PixelLearner, ignore
from dfal.nn.training import Proceed
from dfal.pool import Pool


class Taught(PixelLearner):
    """Learns nothing; `known` has the labels that each fold was trained on."""

    network_name, image_shape = "none", (1, 2, 2)

    def __init__(self) -> None:
        self.known: dict[int | None, dict[int, int]] = {}

    def fit(
        self,
        pool: Pool,
        classes: int,
        seed: int,
        *,
        fold: int | None = None,
        proceed: Proceed = ignore,
    ) -> nn.Module:
        self.known[fold] = {int(i): int(pool.labels[i]) for i in (pool.labels >= 0).nonzero()}
        return nn.Identity()


def folds_of(labels: list[int], seed: int = 0) -> tuple[dict[int, int], Taught]:
    """Return image → the fold that predicts it, and what the networks were trained on."""
    images = Images(torch.zeros(60, 1, 2, 2, dtype=torch.uint8))
    pool, learner = Pool.new(images, dict(enumerate(labels))), Taught()
    made = cross_fit(learner, pool, np.arange(len(labels)), 3, seed=seed, number=1)
    of = {image: fold for fold, (inside, _) in enumerate(made) for image in inside.tolist()}
    return of, learner


@pytest.mark.parametrize("seed", range(20))
def test_each_network_is_told_of_each_class(seed: int) -> None:
    labels = [0] * 20 + [1] * 2 + [2]
    of, learner = folds_of(labels, seed)
    assert [*of] and 22 not in of, "no network without the only label of class 2"
    assert set(range(22)) == {*of}, "all others are predicted once"
    assert len(learner.known) == FOLDS
    for fold, known in learner.known.items():
        assert {*known.values()} == {0, 1, 2}
        assert not {image for image in of if of[image] == fold} & {*known}


def test_an_image_stays_in_its_fold_when_labels_are_added() -> None:
    few, many = [0] * 15 + [1] * 15, [0] * 15 + [1] * 15 + [0, 1, 2, 2, 2] * 4
    before, _ = folds_of(few)
    after, _ = folds_of(many)
    assert before == {image: after[image] for image in before}
