"""The features that a backbone gives images, and what it is, for the trials that use them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal import backbones
from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.nn.training import check_device
from dfal.plugins import describe_exception
from dfal.seeding import fork_rng

Shape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True)
class Description:
    """What a backbone is, without its weights.

    Attributes:
        image: channels, height and width that it takes.
        features: how many numbers it gives for an image.
        dimensions: of the space in which they are compared.
        layers: a hash of its layers and weights.
        probe: its features of noise, the first ones.
    """

    image: Shape
    features: int
    dimensions: int
    layers: str
    probe: tuple[float, ...]


@lru_cache(maxsize=4)
def describe(backbone: str, image: Shape) -> Description:
    """Describe a backbone by what it makes of noise.

    Raises:
        DfalError: where it cannot be loaded, or does not take images of this size.
    """
    with fork_rng(0):
        loaded = backbones.load(backbone, image)
    noise = torch.rand(2, *loaded.image, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        with fork_rng(0):
            probe = _features(loaded.network, noise, backbone)
    finally:
        torch.set_num_threads(threads)
    if loaded.image != image or probe.shape[1:] != (loaded.features,):
        raise DfalError(
            f"the backbone {backbone} says that it makes {loaded.features} features of images of"
            f" {loaded.image}, but it makes {tuple(probe.shape[1:])} of {image}: correct it"
        )
    return Description(
        image,
        loaded.features,
        loaded.dimensions,
        loaded.digest()[:16],
        tuple(probe.flatten()[:100].tolist()),
    )


class Featuriser:
    """Computes the features of images by a backbone. Threads may share it.

    Args:
        backbone: its name.
        image: channels, height and width that it is to take.
        read: returns the images at some indices.
        device: where it runs.
    """

    def __init__(
        self,
        backbone: str,
        image: Shape,
        read: Callable[[Int64[np.ndarray, "n"]], Float[Tensor, "n c h w"]],
        device: str,
    ):
        check_device(device)
        self._name, self._read, self._device = backbone, read, device
        with fork_rng(0):  # one without pretrained weights is the same each time
            self._network = backbones.load(backbone, image).network.to(device)

    def __call__(self, indices: Int64[np.ndarray, "n"]) -> Float[np.ndarray, "n d"]:
        """Return a row of features for each image.

        Raises:
            DfalError: where an image cannot be read, or its features are not finite.
        """
        images = self._read(indices).to(self._device)
        features = _features(self._network, images, self._name).cpu().numpy()
        if not np.isfinite(features).all():
            bad = int(indices[int(np.argmin(np.isfinite(features).all(axis=1)))])
            raise DfalError(
                f"the backbone {self._name} gives NaN or infinite features for image {bad}: use"
                " another"
            )
        return features


@default_modes()
def _features(
    network: nn.Module, images: Float[Tensor, "n c h w"], name: str
) -> Float[Tensor, "n d"]:
    """Return a row of features for each image.

    Raises:
        DfalError: where the network fails, or returns something else.
    """
    if any(isinstance(layer, nn.Conv2d) for layer in network.modules()):
        images = images.contiguous(memory_format=torch.channels_last)  # faster, on CPU and GPU
    try:
        with torch.no_grad():
            out = network(images)
    except Exception as error:  # it may be the user's code, which may raise anything
        raise DfalError(
            f"the backbone {name} cannot take images of shape {tuple(images.shape[1:])}"
            f" ({describe_exception(error)}): give another --size"
        ) from error
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(images):
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise DfalError(
            f"the backbone {name} returns {found} for {len(images)} images, but a row of features"
            " for each is needed"
        )
    return out.float()
