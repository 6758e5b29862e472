"""BADGE (Ash et al. 2020): ask where the gradient is long and points elsewhere than those of the
other images asked about."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.nn.features import affine_last_linear
from dfal.nn.inference import device_of
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, chunks

PART = 1024
"""Images that go through the network at a time."""


@dataclass(frozen=True)
class BADGE(Choice):
    """Asks about k-means++ seeds among the gradients g = (p − e_ŷ) ⊗ x of the last layer, ŷ the
    network's own class and x the layer's input.

    The first is the longest gradient, as in the authors' code; each next one is drawn with a
    probability proportional to the squared distance from the nearest before it. Scores are those
    distances when it was drawn, the first one's ‖g‖.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.

    Cost: one forward pass a candidate, and K · k distances. Memory: features and probabilities: ⟨g,
    g'⟩ = ⟨p − e, p' − e'⟩ ⟨x, x'⟩, so that no gradient, C times as large, is ever made.
    """

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        errors, inputs = [], []
        for _, images in chunks(pool, drawn, device_of(model)):
            for part in images.split(PART):
                end = affine_last_linear(model, part)
                p = end.logits.softmax(1)
                errors.append(
                    (
                        p - torch.zeros_like(p).scatter(1, end.logits.argmax(1, keepdim=True), 1.0)
                    ).cpu()
                )
                inputs.append(end.features.cpu())
        order, distances = plus_plus(torch.cat(errors), torch.cat(inputs), k, rng)
        return Query(drawn[order], distances)


def plus_plus(
    a: Float[Tensor, "n c"], x: Float[Tensor, "n d"], k: int, rng: torch.Generator
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """k ≤ n distinct k-means++ seeds among the products a_i ⊗ x_i (Arthur & Vassilvitskii 2007),
    and their distances to the nearest seed before them. The first is the longest. Where all that is
    left lies on seeds, any of it is drawn.
    """
    norms = a.square().sum(1) * x.square().sum(1)
    nearest = norms.clone()  # squared distances; to the origin before the first seed
    left = torch.ones(len(a), dtype=torch.bool)
    seeds: list[int] = []
    distances: list[float] = []
    for _ in range(k):
        weights = nearest.double() * left
        if not seeds and bool(weights.any()):
            new = int(weights.argmax())
        else:
            total = weights.cumsum(0)
            if not total[-1] > 0:
                total = left.double().cumsum(0)
            # torch.multinomial takes at most 2²⁴ rows; a draw from the running sum takes any
            # number.
            new = int(
                torch.searchsorted(
                    total, torch.rand(1, generator=rng, dtype=torch.float64) * total[-1], right=True
                )
            )
        seeds.append(new)
        distances.append(float(nearest[new]))
        left[new] = False
        inner = (a @ a[new]) * (x @ x[new])
        to_new = (norms + norms[new] - 2 * inner).clamp_(min=0)
        nearest = to_new if len(seeds) == 1 else torch.minimum(nearest, to_new)
    return torch.tensor(seeds, dtype=torch.int64), torch.tensor(distances).sqrt()
