"""Predictions over several looks at an image: as it is, and changed at random."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.nn import AUGMENTATIONS
from dfal.nn.augmentation_choice import usual_augmentation
from dfal.nn.inference import predict
from dfal.nn.network_input import device_of
from dfal.nn.passes import gathered
from dfal.pool import Pool
from dfal.strategies.base import chunks


def look_logits(
    model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], looks: int, rng: torch.Generator
) -> Float[Tensor, "n c"]:
    """Return the logarithm of the mean class probabilities over looks at each image, on the CPU.

    The first look is the image itself. The others are changed by the usual augmentation. Of
    features there is one look.

    Args:
        model: the network.
        pool: has the images.
        indices: which.
        looks: how many at each image, at least 1.
        rng: decides the changes.
    """
    shape = pool.images.shape
    augment = AUGMENTATIONS[usual_augmentation(shape[0])]
    count = looks if len(shape) == 3 else 1

    def mean(images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        p = predict(model, images).softmax(1)
        for _ in range(count - 1):
            p = p + predict(model, augment.strong(images, rng)).softmax(1)
        return (p / count).log().cpu()

    passes = chunks(pool, indices, device_of(model))
    return gathered((mean(images) for _, images in passes), len(indices))
