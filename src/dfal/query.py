"""What strategies and attacks return: queries and perturbations."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

UNKNOWN = -1
"""The label of an image that was not queried yet."""

DECLINED = -2
"""The label of an image that was queried and that a person declined to label."""


@dataclass(frozen=True)
class Perturbation:
    """Hold what an attack found for each image of a batch.

    Attributes:
        images: the perturbed images x + r, of the shape that came in.
        distance: ‖r‖_p, the length of the perturbation in the units of the pixels; inf where
            `fooled` is false.
        fooled: whether the network predicts another class for x + r than for x.
    """

    images: Float[Tensor, "n *image"]
    distance: Float[Tensor, "n"]
    fooled: Bool[Tensor, "n"]


@dataclass(frozen=True)
class Query:
    """Hold the images that a strategy selects, and what is trained on beside their labels.

    Attributes:
        indices: the images to label, as indices of the pool, most wanted first.
        scores: what the strategy ranked them by, in its own unit (DFAL: distance; entropy: nats).
        twinned: for each adversarial twin, the queried image whose label it shares.
        twins: the adversarial twins.
        guessed: images that get a pseudo-label, for the next round only.
        guesses: those pseudo-labels, the network's own predictions. They are no annotations.
        bound: for a selection that minimises a value by search, a proven lower bound of the value.
    """

    indices: Int64[Tensor, "k"]
    scores: Float[Tensor, "k"]
    twinned: Int64[Tensor, "t"] | None = None
    twins: Float[Tensor, "t *image"] | None = None
    guessed: Int64[Tensor, "g"] | None = None
    guesses: Int64[Tensor, "g"] | None = None
    bound: float | None = None

    def only(self, order: Int64[Tensor, "m"]) -> "Query":
        """Return a query of some of the images, with their twins.

        Args:
            order: places in `indices`, in the order of the new query.
        """
        query = replace(self, indices=self.indices[order], scores=self.scores[order])
        if self.twinned is None or self.twins is None:
            return query
        twin_of = {image: row for row, image in enumerate(self.twinned.tolist())}
        rows = [twin_of[image] for image in query.indices.tolist() if image in twin_of]
        return replace(query, twinned=self.twinned[rows], twins=self.twins[rows])

    @classmethod
    def nothing(cls) -> "Query":
        """Return the query of no image."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0))
