"""Backbones: pretrained networks, without their last layer, that turn images into features.

Each backbone, or source of backbones, is one file of this package and one line in `BACKBONES`.

>>> from dfal import backbones
>>> backbone = backbones.load("pixels", image=(1, 8, 8))
>>> backbone.image, backbone.features
((1, 8, 8), 64)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dfal.errors import DfalError, unknown_name
from dfal.lazy import lazy_names
from dfal.plugins import describe_exception, load_object
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from dfal.backbones.base import Backbone
    from dfal.backbones.classifier import FeatureClassifier
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.backbones.base": "Backbone",
            "dfal.backbones.classifier": "FeatureClassifier",
        },
    )

__all__ = ["BACKBONES", "Backbone", "FeatureClassifier", "load"]

BACKBONES: "Registry[Callable[..., Backbone]]" = Registry(
    "backbone",
    {
        "lite0": Entry(
            "dfal.backbones.efficientnet_lite:lite0", "EfficientNet-Lite0, of the extra photos"
        ),
        "lite2": Entry(
            "dfal.backbones.efficientnet_lite:lite2",
            "EfficientNet-Lite2, of the extra photos: larger and more accurate",
        ),
        "pixels": Entry("dfal.backbones.pixels:pixels", "the pixels themselves, for drawings"),
    },
)
"""Name of a backbone, or of a source of backbones → the function that loads it.

It is called as function(argument, image): what stands behind the colon of `timm:NAME`, and the
wanted (c, h, w), or None for the backbone's own.
"""


def load(name: str, image: tuple[int, int, int] | None = None) -> "Backbone":
    """Load a backbone.

    Args:
        name: one of `BACKBONES`, with an argument behind a colon where it is a source of many
            (`timm:resnet18`), or `package.module:function` of your own.
        image: channels, height and width to use it with; by default its own.

    Raises:
        DfalError: for a name that is not there, and where it cannot be loaded.
    """
    from dfal.backbones.base import Backbone

    source, _, argument = name.partition(":")
    if source in BACKBONES:
        return BACKBONES[source](argument, image)
    if not argument:
        raise unknown_name("backbone", name, [*BACKBONES, "package.module:function"])
    make = load_object("backbone", name)
    try:
        backbone = make(argument, image)
    except DfalError:
        raise
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(f"the backbone {name} fails ({describe_exception(error)})") from error
    if not isinstance(backbone, Backbone):
        raise DfalError(
            f"{name} returned {type(backbone).__name__}, but a dfal.backbones.Backbone is needed"
        )
    return backbone
