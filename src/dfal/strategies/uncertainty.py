"""Uncertainty sampling (Lewis & Gale 1994; Settles 2009, section 3.1) by class probabilities."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.fields import added
from dfal.pool import Pool
from dfal.strategies.base import Ranking, all_logits
from dfal.strategies.scores import confidence, entropy, margin, unguarded_entropy


@dataclass(frozen=True)
class Entropy(Ranking):
    """Query the largest entropy −Σ p log p, which the DFAL paper calls uncertainty.

    Scores in nats.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        guarded: whether 0 · log 0 counts as 0. Otherwise, as in the code that the DFAL paper's
            authors released, it is NaN, and images with a probability that was rounded to 0, the
            most certain ones, are queried first: their score is inf.

    Source: Settles 2009.
    Cost: one forward pass a candidate.
    Memory: the logits.
    """

    guarded: bool = added(True)

    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        f = all_logits(model, pool, indices)
        return entropy(f) if self.guarded else unguarded_entropy(f).nan_to_num(torch.inf)


ENTROPY_RELEASED = Entropy(guarded=False)


@dataclass(frozen=True)
class Margin(Ranking):
    """Query the smallest margin p₁ − p₂ between the two largest probabilities.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.

    Source: Settles 2009.
    Cost: one forward pass a candidate.
    Memory: the logits.
    """

    largest: ClassVar[bool] = False

    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        return margin(all_logits(model, pool, indices))


@dataclass(frozen=True)
class LeastConfidence(Ranking):
    """Query the lowest probability p₁ of the predicted class.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.

    Source: Lewis & Gale 1994.
    Cost: one forward pass a candidate.
    Memory: the logits.
    """

    largest: ClassVar[bool] = False

    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        return confidence(all_logits(model, pool, indices))
