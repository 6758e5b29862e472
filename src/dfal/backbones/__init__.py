"""Backbones: pretrained networks, without their last layer, that turn images into features.

Each backbone, or source of backbones, is one file of this package and one line in
`dfal.backbones.registry`.

>>> from dfal import backbones
>>> backbone = backbones.load("pixels", image=(1, 8, 8))
>>> backbone.image, backbone.features
((1, 8, 8), 64)
"""

from typing import TYPE_CHECKING

from dfal.backbones.registry import BACKBONES
from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.backbones.automatic_choice import Automatic, automatic
    from dfal.backbones.base import Backbone
    from dfal.backbones.classifier import FeatureClassifier
    from dfal.backbones.named import load, rebuild
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.backbones.automatic_choice": "Automatic automatic",
            "dfal.backbones.base": "Backbone",
            "dfal.backbones.classifier": "FeatureClassifier",
            "dfal.backbones.named": "load rebuild",
        },
    )

__all__ = [
    "BACKBONES",
    "Automatic",
    "Backbone",
    "FeatureClassifier",
    "automatic",
    "load",
    "rebuild",
]
