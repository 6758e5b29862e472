"""What a backbone is."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Backbone:
    """A frozen network that turns images into features.

    Attributes:
        name: by which `dfal.backbones.load` finds it.
        network: takes (n, c, h, w) with pixels in [0, 1], normalises them as it was trained, and
            returns (n, d) features. It is in evaluation mode and has no gradients.
        image: channels, height and width in pixels that it takes.
        features: d, numbers an image.
        about: what it was trained on, in a few words.
    """

    name: str
    network: nn.Module
    image: tuple[int, int, int]
    features: int
    about: str = ""

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)
