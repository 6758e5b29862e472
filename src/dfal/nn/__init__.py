"""Networks: how they are built, trained and run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS"]

NETWORKS: "Registry[Callable[..., nn.Module]]" = Registry(
    "network",
    {
        "lenet5": Entry("dfal.nn.networks:lenet5", "two convolutions, for small images"),
        "vgg8": Entry("dfal.nn.networks:vgg8", "six convolutions, slow without a GPU"),
        "linear": Entry("dfal.nn.networks:linear", "one linear layer, for features of a backbone"),
    },
)
"""Name of a network → the function that makes a new one, for images (c, h, w) and a number of
classes."""
