"""What a backbone is, and where backbones come from."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.semisupervised.neighbourhood import DIMENSIONS, Neighbourhood
from dfal.semisupervised.space import Space, fit_space

Image = tuple[int, int, int]
"""Channels, height and width in pixels."""
Recipe = Mapping[str, Any]
"""What is needed to rebuild a network beside its name and weights; values that JSON has."""


@dataclass(frozen=True)
class Backbone:
    """A frozen network that turns images into features.

    Attributes:
        name: by which `dfal.backbones.load` finds it.
        network: takes (n, c, h, w) with pixels in [0, 1], normalises them as it was trained, and
            returns (n, d) features. It is in evaluation mode and has no gradients. What is needed
            to rebuild it from its weights is in its attribute `recipe`, if it has one.
        image: channels, height and width in pixels that it takes.
        features: d, numbers an image.
        about: what it was trained on, in a few words.
        make_trainable: returns the form of the network that can be fine-tuned; by default a copy of
            the network can.
        components, standardise: of the space in which its features are compared: principal
            components, and whether each feature is divided by its standard deviation first.
    """

    name: str
    network: nn.Module
    image: Image
    features: int
    about: str = ""
    make_trainable: Callable[[], nn.Module] | None = None
    components: int = DIMENSIONS
    standardise: bool = True

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    def digest(self) -> str:
        """Return a hash of its layers and weights, in hexadecimal."""
        digest = hashlib.sha256(repr(self.network).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(
                tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            )
        return digest.hexdigest()

    @property
    def dimensions(self) -> int:
        """Return how many there are of the space in which its features are compared."""
        return min(self.features, self.components)

    def space(self, features: Float[np.ndarray, "n d"]) -> Space:
        """Estimate the space in which features are compared from those of some images."""
        return fit_space(features, self.components, standardise=self.standardise)

    def neighbourhood(self, features: Float[np.ndarray, "n d"]) -> Neighbourhood:
        """Compute space and graph of images from their features."""
        return Neighbourhood.within(self.space(features), features)

    def trainable(self) -> nn.Module:
        """Return a new network to fine-tune, with the pretrained weights and with gradients.

        It computes the same features in evaluation mode, and stands in a `FeatureClassifier` as the
        frozen one does.

        Raises:
            DfalError: where the backbone cannot be fine-tuned.
        """
        make = self.make_trainable
        network = copy.deepcopy(self.network) if make is None else make()
        return network.train().requires_grad_(True)


def reduced_precision(network: nn.Module, device: torch.device) -> torch.autocast:
    """Return a context in which a network computes in bfloat16, where that is faster and harmless.

    That is so on CPUs with instructions for bfloat16, and for networks whose features were measured
    to be as good: those with an attribute `allows_bfloat16` that is true.

    Args:
        network: of a backbone.
        device: where it is.
    """
    # There is no public function that tells.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    enabled = (
        device.type == "cpu" and supported and bool(getattr(network, "allows_bfloat16", False))
    )
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


@runtime_checkable
class Source(Protocol):
    """Where backbones come from: a module, or an object, with these two functions.

    The argument is what stands behind the colon of `timm:NAME`.
    """

    def load(self, argument: str, image: Image | None) -> Backbone:
        """Load a backbone with its pretrained weights.

        Args:
            argument: which one.
            image: what it is to take; None for its own.

        Raises:
            DfalError: where it cannot be loaded.
        """
        ...

    def rebuild(
        self, argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]
    ) -> nn.Module:
        """Make the network of a backbone for a saved model, without any download.

        Args:
            argument: which one.
            image: what it takes.
            recipe: of the network that was saved. Nothing in it may be executed.
            weights: of the network that was saved.

        Raises:
            RuntimeError: for weights that do not fit.
            DfalError: where a package is missing.
        """
        ...
