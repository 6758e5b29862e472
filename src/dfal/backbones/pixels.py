"""The pixels themselves as features: what a backbone must be better than."""

from torch import nn

from dfal.backbones.base import Backbone


def pixels(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    """Return the backbone whose features are the pixels.

    Args:
        argument: nothing.
        image: channels, height and width; by default grey digits of 28 × 28.
    """
    c, h, w = image or (1, 28, 28)
    return Backbone("pixels", nn.Flatten(), (c, h, w), c * h * w, "the pixels themselves")
