"""Backbones: pretrained networks, without their last layer, that turn images into features.

Each backbone, or source of backbones, is one file of this package and one line in `BACKBONES`.

>>> from dfal import backbones
>>> backbone = backbones.load("pixels", image=(1, 8, 8))
>>> backbone.image, backbone.features
((1, 8, 8), 64)
"""

from typing import TYPE_CHECKING, Any

from dfal.lazy import lazy_names
from dfal.registry import Entry, Registry

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

BACKBONES: Registry[Any] = Registry(
    "backbone",
    {
        "lite0": Entry(
            "dfal.backbones.efficientnet_lite:LITE0", "EfficientNet-Lite0, of the extra photos"
        ),
        "lite2": Entry(
            "dfal.backbones.efficientnet_lite:LITE2",
            "EfficientNet-Lite2, of the extra photos: larger and more accurate",
        ),
        "timm": Entry("dfal.backbones.from_timm", "timm:NAME, a network of the package timm"),
        "hf": Entry(
            "dfal.backbones.from_hugging_face",
            "hf:NAME of the Hugging Face hub, or hf:FOLDER of a saved one",
        ),
        "torchvision": Entry(
            "dfal.backbones.from_torchvision", "torchvision:NAME, a network of torchvision"
        ),
        "onnx": Entry("dfal.backbones.from_onnx", "onnx:FILE, a graph that returns features"),
        "pixels": Entry("dfal.backbones.pixels", "the pixels themselves, for drawings"),
    },
)
"""Name of a backbone, or of a source of backbones → the source."""
