"""Networks: how they are built, trained and run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dfal.errors import SettingError
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

    from dfal.nn.augmentation import Augmentation

__all__ = ["AUGMENTATIONS", "NETWORKS", "check_size"]

SMALLEST_SIDE, LARGEST_SIDE = 8, 2048
"""Pixels of the side of an image to which images may be resized for a network."""

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


def check_size(size: int) -> None:
    """Check a setting `size`, the side in pixels to which images are resized; 0 for none.

    Raises:
        SettingError: for a side that is too small or too large.
    """
    if size and not SMALLEST_SIDE <= size <= LARGEST_SIDE:
        raise SettingError(
            "size", f"must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, or 0 (got {size})"
        )
