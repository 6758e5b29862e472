"""The pixels themselves as features: what a backbone must be better than."""

from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe

MAX_SIDE = 32
"""Pixels of a side; those of larger images are averaged."""
COMPONENTS = 50
"""Principal components that are kept. They are not standardised: pixels at the border hardly vary,
and would count as much as the others."""


def load(argument: str, image: Image | None) -> Backbone:
    """Return the backbone whose features are the pixels, by default of grey digits of 28 × 28."""
    c, h, w = image or (1, 28, 28)
    h, w = _sides(h, w)
    return Backbone(
        "pixels",
        _network(h, w),
        image or (1, 28, 28),
        c * h * w,
        "the pixels themselves",
        components=COMPONENTS,
        standardise=False,
    )


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Return the network, which has no weights."""
    return _network(*_sides(*image[1:]))


def _sides(h: int, w: int) -> tuple[int, int]:
    return min(h, MAX_SIDE), min(w, MAX_SIDE)


def _network(h: int, w: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d((h, w)), nn.Flatten())
