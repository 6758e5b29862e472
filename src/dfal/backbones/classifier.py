"""A network made of a backbone and a linear layer."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


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

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits of images."""
        x: Tensor = self.body(images).float()
        out: Tensor = self.head(F.normalize((x - self.mean) @ self.projection.T))
        return out
