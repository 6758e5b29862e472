"""The names of backbones and of their sources."""

from typing import Any

from dfal.registry import Entry, Registry

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
