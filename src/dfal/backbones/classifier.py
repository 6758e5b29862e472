"""A network made of a backbone and a linear layer."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.semisupervised.space import Space


class FeatureClassifier(nn.Module):
    """Backbone → features of unit length → linear layer: (n, c, h, w) → (n, classes) logits.

    Features x become z = P (x − μ) / ‖P (x − μ)‖, where μ is the mean of a set of images and P
    scales by their standard deviation and may project.

    Args:
        body: (n, c, h, w) → (n, d); the network of a `Backbone`, or a fine-tuned one.
        mean: (d,) μ.
        projection: (m, d) P.
        head: m → classes.
    """

    mean: Tensor
    projection: Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: Float[Tensor, "d"],
        projection: Float[Tensor, "m d"],
        head: nn.Linear,
    ):
        super().__init__()
        self.body, self.head = body, head
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    @property
    def recipe(self) -> dict[str, Any]:
        """Return what is needed to rebuild the body beside its name and weights."""
        return dict(getattr(self.body, "recipe", {}))

    @classmethod
    def of(cls, body: nn.Module, space: Space, head: nn.Linear) -> "FeatureClassifier":
        """Return the network of a body, a space of its features, and a layer on that space."""
        return cls(body, torch.from_numpy(space.mean), torch.from_numpy(space.projection), head)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits of images."""
        return self.classify(self.body(images).float())

    def classify(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Return the logits of images by their features."""
        z = F.normalize((features - self.mean) @ self.projection.T)
        out: Tensor = self.head(z)
        return out
