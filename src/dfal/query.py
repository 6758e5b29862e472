"""What a strategy asks for and what an attack returns."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

UNKNOWN = -1
"""The label of an image that nobody was asked about yet."""

DECLINED = -2
"""The label of an image that a person was asked about and did not want to label."""


@dataclass(frozen=True)
class Perturbation:
    """What an attack found for each image of a batch.

    Attributes:
        images: the moved images, of the shape that came in.
        distance: ‖r‖_p, the length of the perturbation in the units of the pixels; inf where
        `fooled` is false.
        fooled: whether the network gives the moved image another class than the image itself.
    """

    images: Float[Tensor, "n *image"]
    distance: Float[Tensor, "n"]
    fooled: Bool[Tensor, "n"]


@dataclass(frozen=True)
class Query:
    """A question: which images to ask about, and what will be learnt beside the answers.

    Attributes:
        indices: the images to ask about, as indices of the data set, most wanted first.
        scores: what the strategy ranked them by, in its own unit (DFAL: distance; entropy: nats).
        twinned: for each twin, the asked image whose answer it inherits.
        twins: the adversarial twins.
        guessed: images that are trained on with the network's own label in the next round only.
        guesses: those labels. They are no annotations: nobody was asked.
        bound: where the choice minimises something by search, what is proved: no choice comes below
        this value.
    """

    indices: Int64[Tensor, "k"]
    scores: Float[Tensor, "k"]
    twinned: Int64[Tensor, "t"] | None = None
    twins: Float[Tensor, "t *image"] | None = None
    guessed: Int64[Tensor, "g"] | None = None
    guesses: Int64[Tensor, "g"] | None = None
    bound: float | None = None

    def only(self, order: Int64[Tensor, "m"]) -> "Query":
        """The question about some of its images, given by place and in that order, with their
        twins."""
        kept = replace(self, indices=self.indices[order], scores=self.scores[order])
        if self.twinned is None or self.twins is None:
            return kept
        place = {image: at for at, image in enumerate(self.twinned.tolist())}
        rows = [place[image] for image in kept.indices.tolist() if image in place]
        return replace(kept, twinned=self.twinned[rows], twins=self.twins[rows])

    @classmethod
    def nothing(cls) -> "Query":
        """The question that asks about no image."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0))
