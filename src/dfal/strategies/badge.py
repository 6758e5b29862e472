"""BADGE (Ash et al. 2020): long and different gradients of the last layer."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.nn.features import affine_last_linear
from dfal.nn.network_input import device_of
from dfal.nn.passes import gathered, images_a_pass
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, chunks
from dfal.strategies.selection import DISTANCE_ROWS

FORWARD_BATCH = 1024
"""Images in one forward pass, fewer where they are large."""


@dataclass(frozen=True)
class BADGE(Choice):
    """Query k-means++ seeds among the gradients (p − e_ŷ) ⊗ x of the last layer.

    ŷ is the predicted class and x the layer's input. The first seed is the longest gradient, as in
    the authors' code; each next one is drawn with a probability proportional to the squared
    distance from the nearest seed before it. Scores are those distances when each was drawn, the
    first one's ‖g‖.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.

    Source: Ash et al. 2020.
    Cost: one forward pass a candidate, and K · k distances.
    Memory: features and probabilities. As ⟨g, g'⟩ = ⟨p − e, p' − e'⟩ ⟨x, x'⟩, the gradients, which
    are C times as large, are never formed.
    """

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        errors: list[Tensor] = []

        def inputs() -> Iterator[Tensor]:
            """Yield the inputs of the last layer, and remember the errors, which are small."""
            for _, images in chunks(pool, candidates, device_of(model)):
                for batch in images.split(images_a_pass(images, FORWARD_BATCH)):
                    end = affine_last_linear(model, batch)
                    p = end.logits.softmax(1)
                    predicted = end.logits.argmax(1, keepdim=True)
                    errors.append((p - torch.zeros_like(p).scatter(1, predicted, 1.0)).cpu())
                    yield end.features.cpu()

        x = gathered(inputs(), len(candidates))
        order, distances = k_means_plus_plus(torch.cat(errors), x, k, rng)
        return Query(candidates[order], distances)


def k_means_plus_plus(
    a: Float[Tensor, "n c"], x: Float[Tensor, "n d"], k: int, rng: torch.Generator
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return k distinct k-means++ seeds among products a_i ⊗ x_i, and their distances.

    The first seed is the longest product. Where all that is left lies on seeds, any of it is drawn.

    Args:
        a: left factors.
        x: right factors.
        k: how many seeds, at most n.
        rng: draws the seeds.

    Returns:
        The rows of the seeds, and the distance of each to the nearest seed before it.

    Source: Arthur & Vassilvitskii 2007.
    """
    # A list of sums would keep the squares' memory, which lies between them, from being used again.
    squared = gathered((block.square().sum(1) for block in x.split(DISTANCE_ROWS)), len(x))
    norms = a.square().sum(1) * squared
    nearest = norms.clone()  # squared distances; to the origin before the first seed
    left = torch.ones(len(a), dtype=torch.bool)
    seeds: list[int] = []
    distances: list[float] = []
    for _ in range(k):
        weights = nearest.double() * left
        if not seeds and bool(weights.any()):
            seed = int(weights.argmax())
        else:
            total = weights.cumsum(0)
            if not total[-1] > 0:
                total = left.double().cumsum(0)
            # torch.multinomial takes at most 2²⁴ rows; a draw from the running sum takes any
            # number.
            threshold = torch.rand(1, generator=rng, dtype=torch.float64) * total[-1]
            seed = int(torch.searchsorted(total, threshold, right=True))
        seeds.append(seed)
        distances.append(float(nearest[seed]))
        left[seed] = False
        inner = (a @ a[seed]) * (x @ x[seed])
        to_seed = (norms + norms[seed] - 2 * inner).clamp_(min=0)
        nearest = to_seed if len(seeds) == 1 else torch.minimum(nearest, to_seed)
    return torch.tensor(seeds, dtype=torch.int64), torch.tensor(distances).sqrt()
