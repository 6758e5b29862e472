"""The pixels themselves as features: what a backbone must be better than."""

from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe


def load(argument: str, image: Image | None) -> Backbone:
    """Return the backbone whose features are the pixels, by default of grey digits of 28 × 28."""
    c, h, w = image or (1, 28, 28)
    return Backbone("pixels", nn.Flatten(), (c, h, w), c * h * w, "the pixels themselves")


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Return the network, which has no weights."""
    return nn.Flatten()
