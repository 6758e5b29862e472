"""Predict labelled images by networks that were trained on the labels of others."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from dfal.labelling.learning.comparison import MAX_UNLABELLED, Validation
from dfal.labelling.learning.learner import Learner, ignore
from dfal.nn.training import Proceed
from dfal.pool import Pool
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed

FOLDS = 3
"""Networks, each of which predicts the images that it was not trained on."""
IN_ALL_TRAININGS = -1
"""The fold of images that are trained on by all networks, and predicted by none."""


def validate(
    learner: Learner,
    pool: Pool,
    classes: int,
    *,
    random_order: Int64[np.ndarray, "m"],
    seed: int,
    proceed: Proceed = ignore,
) -> Validation:
    """Return how images are predicted by networks that were trained on the other folds.

    Args:
        learner: that trains them.
        pool: of its images.
        classes: how many they tell apart.
        random_order: images at random, of which the first without a label stand for all.
        seed: of the session.
        proceed: called between the steps of slow trainings; what it raises ends them.
    """
    labels = pool.labels.numpy()
    others = random_order[labels[random_order] == UNKNOWN][:MAX_UNLABELLED]
    labelled = np.flatnonzero(labels >= 0)
    compared = np.sort(np.concatenate([labelled, others]))
    posterior = np.zeros((len(labels), classes), np.float32)
    for images, model in cross_fit(
        learner, pool, compared, classes, seed=seed, number=len(labelled), proceed=proceed
    ):
        posterior[images] = learner.logits(model, pool.images, images).softmax(1).numpy()
    compared = compared[posterior[compared].any(axis=1)]
    return Validation.of(compared, labels[compared], posterior[compared])


def cross_fit(
    learner: Learner,
    pool: Pool,
    images: Int64[np.ndarray, "n"],
    classes: int,
    *,
    seed: int,
    number: int,
    proceed: Proceed = ignore,
) -> Iterator[tuple[Int64[np.ndarray, "m"], nn.Module]]:
    """Yield the images of each fold, and a network that was trained without their labels.

    Without labels of two classes there is no network. An image that alone has the label of its
    class is in no fold, since networks cannot predict a class that they were not told of.

    Args:
        learner: that trains the networks.
        pool: of its images.
        images: that are predicted.
        classes: how many the networks tell apart.
        seed: of the session.
        number: of this time, so that other times have other networks.
        proceed: called between the steps of slow trainings; what it raises ends them.
    """
    folds = _folds(images, pool.labels.numpy()[images], seed)
    for fold in range(FOLDS):
        inside = images[folds == fold]
        rest = _without(pool, inside)
        if len(inside) and len(rest.labels[rest.labels >= 0].unique()) > 1:
            own = derive_seed(seed, number, f"fold {fold}")
            yield inside, learner.fit(rest, classes, own, fold=fold, proceed=proceed)


def _folds(
    images: Int64[np.ndarray, "n"], labels: Int64[np.ndarray, "n"], seed: int
) -> Int64[np.ndarray, "n"]:
    """Return the fold of each image, 0 to FOLDS − 1, or IN_ALL_TRAININGS.

    The fold of an image is drawn once and for all, and is another one only while all labels of a
    class would be in one fold.
    """
    folds = np.array([derive_seed(seed, image, "fold") % FOLDS for image in images.tolist()])
    for label in np.unique(labels[labels >= 0]):
        places = np.flatnonzero(labels == label)
        if len(places) == 1:
            folds[places] = IN_ALL_TRAININGS
        elif len(np.unique(folds[places])) == 1:
            folds[places[0]] = (folds[places[0]] + 1) % FOLDS
    return folds


def _without(pool: Pool, images: Int64[np.ndarray, "m"]) -> Pool:
    """Return a pool without the labels of some images and their twins."""
    labels = pool.labels.clone()
    labels[torch.from_numpy(images[pool.labels.numpy()[images] >= 0])] = UNKNOWN
    is_kept = labels[pool.twinned] >= 0
    return replace(pool, labels=labels, twinned=pool.twinned[is_kept], twins=pool.twins[is_kept])
