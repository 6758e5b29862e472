"""Pixels beside the features of a backbone: for digits, drawings and other images.

Strokes look alike to a network that was trained on photographs, and shifted ones do not to the
pixels: together they tell more classes apart than either does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.backbones import pixels
from dfal.backbones.base import Backbone, Image
from dfal.backbones.registry import WITH_PIXELS
from dfal.errors import DfalError
from dfal.semisupervised.space import Space, fit_space, joint_space

SIDE = 16
"""Height and width to which images are averaged for their pixels to be compared."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image, as Pillow has them."""


@dataclass(frozen=True)
class BackboneWithPixels(Backbone):
    """A backbone whose features are those of another one, and behind them the pixels.

    Attributes:
        alone: the other one.
    """

    alone: Backbone = field(kw_only=True)

    @property
    def dimensions(self) -> int:
        """Return how many there are of the space in which features and pixels are compared."""
        return self.alone.dimensions + min(self.features - self.alone.features, pixels.COMPONENTS)

    def space(self, features: Float[np.ndarray, "n d"]) -> Space:
        """Estimate the space in which features and pixels count the same."""
        width = self.alone.features
        return joint_space(
            [
                self.alone.space(features[:, :width]),
                fit_space(features[:, width:], pixels.COMPONENTS, standardise=False),
            ],
            features,
        )


def with_pixels(alone: Backbone) -> BackboneWithPixels:
    """Return a backbone whose features are those of another one, and behind them the pixels.

    Raises:
        DfalError: for pixels beside pixels.
    """
    if alone.name == "pixels":
        raise DfalError(f"the backbone pixels{WITH_PIXELS} has the pixels twice: say pixels")
    network = NetworkWithPixels(alone.network, alone.image)
    return BackboneWithPixels(
        name=f"{alone.name}{WITH_PIXELS}",
        network=network,
        image=alone.image,
        features=alone.features + network.small.features,
        about=f"{alone.about}, and the pixels",
        make_trainable=lambda: NetworkWithPixels(alone.trainable(), alone.image),
        alone=alone,
    )


def rebuilt(
    image: Image, weights: dict[str, Tensor], rebuild: Callable[[dict[str, Tensor]], nn.Module]
) -> nn.Module:
    """Make the network of a saved model.

    Args:
        image: channels, height and width that it takes.
        weights: of the whole network.
        rebuild: makes the backbone's own network from its weights.

    Raises:
        RuntimeError: for weights that do not fit.
    """
    prefix = "network."
    network = rebuild({name.removeprefix(prefix): value for name, value in weights.items()})
    return NetworkWithPixels(network, image)


class NetworkWithPixels(nn.Module):
    """The features of a network, and behind them the pixels: (n, c, h, w) → (n, d + c · 16 · 16).

    Args:
        network: (n, c, h, w) → (n, d).
        image: c, h and w.
    """

    def __init__(self, network: nn.Module, image: Image):
        super().__init__()
        self.network, self.small = network, SmallImage(image, image[0])
        self.recipe = dict(getattr(network, "recipe", {}))
        self.allows_bfloat16 = bool(getattr(network, "allows_bfloat16", False))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of images with pixels in [0, 1]."""
        return torch.cat([self.network(images).float(), self.small(images).float()], 1)


class SmallImage(nn.Module):
    """Averages of the pixels in a grid of 16 × 16: (n, c, h, w) → (n, channels · 16 · 16).

    Args:
        image: c, h and w.
        channels: of the result: c, or 3 of grey images, or 1 of colours.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, image: Image, channels: int):
        super().__init__()
        c, h, w = image
        self.features = channels * SIDE * SIDE
        self._channels, self._is_reduced = channels, c > channels
        # Matrices, since ONNX has no adaptive pooling of a side that is no multiple. They are a
        # function of the image's size and no weights.
        self.register_buffer("rows", averages(h), persistent=False)
        self.register_buffer("columns", averages(w), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the averages."""
        small = self.rows @ images @ self.columns.T
        if self._is_reduced:
            weights = torch.tensor(LUMINANCE, device=small.device).view(1, 3, 1, 1)
            small = (small * weights).sum(1, keepdim=True)
        return small.expand(-1, self._channels, -1, -1).flatten(1)


def averages(length: int) -> Float[Tensor, "side length"]:
    """Return the matrix that averages so many pixels in SIDE equal parts.

    A pixel on the border of two parts counts in each by its share.
    """
    ends = np.linspace(0, length, SIDE + 1)
    pixel = np.arange(length)
    low = np.maximum(ends[:-1, None], pixel)
    high = np.minimum(ends[1:, None], pixel + 1)
    overlap = np.maximum(high - low, 0)
    return torch.from_numpy((overlap / overlap.sum(1, keepdims=True)).astype(np.float32))
