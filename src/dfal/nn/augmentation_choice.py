"""Choose an augmentation by how well labels are predicted that were not trained on."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from dfal.nn import AUGMENTATIONS
from dfal.nn.inference import predict
from dfal.nn.training_settings import Training
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, generator

FOLDS = 3
"""Parts of the labelled images, each of which is predicted by networks trained on the others."""
MIN_IMAGES = 15
"""Labelled images from which augmentations are compared."""
STEPS = 200
"""Of each training."""


def suited_augmentation(
    fit: Callable[..., nn.Module],
    make: Callable[[], nn.Module],
    data: LabelledData,
    settings: Training,
    seed: int,
) -> str:
    """Return the augmentation with the lowest cross-entropy of labels in cross-validation.

    It is "none" for features, and for fewer labelled images than MIN_IMAGES. Networks are trained
    for a few hundred steps, on the labels alone.

    Args:
        fit: trains a network, as `dfal.fit`.
        make: returns a new network.
        data: what is trained on.
        settings: of the training.
        seed: fixes folds and trainings.
    """
    sources = data.source.unique()
    if data.images.ndim != 4 or len(sources) < MIN_IMAGES:
        return "none"
    rng = generator(seed, 0, "folds")
    fold = torch.randperm(len(sources), generator=rng) % FOLDS
    fold_of = fold[torch.searchsorted(sources, data.source)]
    short = replace(
        settings,
        epochs=1,
        steps=min(settings.steps or STEPS, STEPS),
        holdout=0.0,
        restarts=1,
        ensemble=1,
        unlabelled="none",
        without_dropout=settings.is_without_dropout,
    )
    losses: dict[str, float] = {}
    for name in reversed(list(AUGMENTATIONS)):  # images as they are come first, for ties
        losses[name] = 0.0
        for part in range(FOLDS):
            inside = fold_of == part
            model = fit(
                make,
                _rows(data, ~inside),
                replace(short, augment=name),
                derive_seed(seed, part, "fold"),
            )
            held_out = _rows(data, inside)
            f = predict(model, held_out.images)
            losses[name] += float(F.cross_entropy(f, held_out.labels.long(), reduction="sum"))
    return min(losses, key=losses.__getitem__)


def _rows(data: LabelledData, which: torch.Tensor) -> LabelledData:
    on = which.to(data.images.device)
    return LabelledData(data.images[on], data.labels[on], data.source[which])
