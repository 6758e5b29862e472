"""Networks: how they are built, trained and run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

    from dfal.nn.augmentation import Augmentation

__all__ = ["AUGMENTATIONS", "NETWORKS"]

NETWORKS: "Registry[Callable[..., nn.Module]]" = Registry(
    "network",
    {
        "lenet5": Entry("dfal.nn.networks:lenet5", "two convolutions, for small images"),
        "vgg8": Entry("dfal.nn.networks:vgg8", "six convolutions, slow without a GPU"),
        "linear": Entry("dfal.nn.networks:linear", "one linear layer, for features of a backbone"),
    },
)
"""Name of a network → the function that makes a new one, for images (c, h, w) and a number of
classes."""

AUGMENTATIONS: "Registry[Augmentation]" = Registry(
    "augmentation",
    {
        "photographs": Entry(
            "dfal.nn.augmentation:PHOTOGRAPHS", "mirror, cut out a part, change light and colour"
        ),
        "shapes": Entry(
            "dfal.nn.augmentation:SHAPES", "rotate, scale, shear, shift and bend, for digits"
        ),
        "drawings": Entry(
            "dfal.nn.augmentation:DRAWINGS", "as shapes, and mirror, for what may be mirrored"
        ),
        "none": Entry("dfal.nn.augmentation:NONE", "images as they are"),
    },
)
"""Name of an augmentation → function(images, rng) that returns as many changed images,
an `Augmentation`."""
