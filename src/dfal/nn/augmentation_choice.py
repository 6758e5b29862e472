"""Choose an augmentation by how well labels are predicted that were not trained on."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.nn.inference import predict
from dfal.nn.training_settings import Training
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, generator

FOLDS = 3
"""Parts of the labelled images, each of which is predicted by networks trained on the others."""
MIN_IMAGES = 15
"""Labelled images from which augmentations are compared."""
DOUBT = 2.0
"""Standard errors. With one, `drawings` won on digits with 20 labels now and then, by chance."""
STEPS = 200
"""Of each training."""


def usual_augmentation(channels: int) -> str:
    """Return the augmentation of images of which nothing else is known."""
    return "shapes" if channels == 1 else "photographs"


def suited_augmentation(
    fit: Callable[..., nn.Module],
    make: Callable[[], nn.Module],
    data: LabelledData,
    settings: Training,
    seed: int,
) -> str:
    """Return the augmentation that suits the labels, by cross-validation.

    At first that is `usual_augmentation`. Images as they are, and mirrored drawings, take its place
    where they predict labels with a lower cross-entropy, beyond DOUBT standard errors of the
    difference. Networks are trained for a few hundred steps, on the labels alone. It is "none" for
    features, and for fewer labelled images than MIN_IMAGES.

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

    def losses(name: str) -> Float[Tensor, "n"]:
        """Return the cross-entropy of each image by networks that were not trained on it."""
        out = torch.empty(len(data.labels))
        for part in range(FOLDS):
            inside = fold_of == part
            training = replace(short, augment=name)
            model = fit(make, data.rows(~inside), training, derive_seed(seed, part, "fold"))
            held_out = data.rows(inside)
            f = predict(model, held_out.images)
            out[inside] = F.cross_entropy(f, held_out.labels.long(), reduction="none").cpu()
        return out

    best = usual_augmentation(data.images.shape[1])
    others = ["none", "drawings"] if best == "shapes" else ["none"]
    lowest = losses(best)
    for name in others:
        gain = lowest - (loss := losses(name))
        if gain.mean() > DOUBT * gain.std() / len(gain) ** 0.5:
            best, lowest = name, loss
    return best
