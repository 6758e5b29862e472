"""Backbones: pretrained networks, without their last layer, that turn images into features.

Each backbone, or source of backbones, is one file of this package and one line in `BACKBONES`.

>>> from dfal import backbones
>>> backbone = backbones.load("pixels", image=(1, 8, 8))
>>> backbone.image, backbone.features
((1, 8, 8), 64)
"""

from typing import TYPE_CHECKING

from dfal.errors import unknown_name
from dfal.lazy import lazy_names
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfal.backbones.base import Backbone, Recipe, Source
    from dfal.backbones.classifier import FeatureClassifier
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.backbones.base": "Backbone",
            "dfal.backbones.classifier": "FeatureClassifier",
        },
    )

__all__ = ["BACKBONES", "Backbone", "FeatureClassifier", "load", "rebuild"]

BACKBONES: "Registry[Source]" = Registry(
    "backbone",
    {
        "lite0": Entry(
            "dfal.backbones.efficientnet_lite:LITE0", "EfficientNet-Lite0, of the extra photos"
        ),
        "lite2": Entry(
            "dfal.backbones.efficientnet_lite:LITE2",
            "EfficientNet-Lite2, of the extra photos: larger and more accurate",
        ),
        "pixels": Entry("dfal.backbones.pixels", "the pixels themselves, for drawings"),
    },
)
"""Name of a backbone, or of a source of backbones → the source."""


def load(name: str, image: tuple[int, int, int] | None = None) -> "Backbone":
    """Load a backbone.

    Args:
        name: one of `BACKBONES`, with an argument behind a colon where it is a source of many
            (`timm:resnet18`), or `package.module:function` of your own.
        image: channels, height and width to use it with; by default its own.

    Raises:
        DfalError: for a name that is not there, and where it cannot be loaded.
    """
    source, argument = _source(name)
    return source.load(argument, image)


def rebuild(
    name: str,
    image: tuple[int, int, int],
    recipe: "Recipe",
    weights: "dict[str, Tensor]",
) -> "nn.Module":
    """Make the network of a backbone for a saved model, without any download.

    Args:
        name: of the backbone, as `load` takes it.
        image: channels, height and width in pixels that it takes.
        recipe: of the network that was saved (`FeatureClassifier.recipe`).
        weights: its state.

    Raises:
        DfalError: for a name that is not there, and where a package is missing.
        RuntimeError: for weights that do not fit.
    """
    source, argument = _source(name)
    return source.rebuild(argument, image, recipe, weights)


def _source(name: str) -> "tuple[Source, str]":
    """Return the source of a backbone, and which of its backbones it is."""
    source, _, argument = name.partition(":")
    if source in BACKBONES:
        return BACKBONES[source], argument
    if not argument:
        raise unknown_name("backbone", name, [*BACKBONES, "package.module:function"])
    from dfal.backbones import custom

    return custom, name
