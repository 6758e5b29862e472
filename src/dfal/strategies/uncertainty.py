"""Uncertainty sampling (Lewis & Gale 1994; Settles 2009, section 3.1): ask where the network's own probabilities hesitate.

Cost: one forward pass a candidate. Memory: its logits.
"""

from dataclasses import dataclass

import torch
from torch import nn

from dfal.pool import Pool
from dfal.scores import confidence, entropy, margin
from dfal.strategies.candidates import all_logits, check, draw, highest, lowest
from dfal.types import Query


@dataclass(frozen=True)
class Entropy:
    """Asks about the largest entropy −Σ p log p: what the paper calls uncertainty. Scores in nats.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
    """

    candidates: int | None = None

    def __post_init__(self) -> None:
        check(self.candidates)

    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        chosen = draw(pool, self.candidates, k, rng)
        return highest(chosen, entropy(all_logits(model, pool, chosen)), k) if len(chosen) else Query.nothing()


@dataclass(frozen=True)
class Margin:
    """Asks about the smallest difference between the two largest probabilities.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
    """

    candidates: int | None = None

    def __post_init__(self) -> None:
        check(self.candidates)

    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        chosen = draw(pool, self.candidates, k, rng)
        return lowest(chosen, margin(all_logits(model, pool, chosen)), k) if len(chosen) else Query.nothing()


@dataclass(frozen=True)
class LeastConfidence:
    """Asks about the smallest largest probability.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
    """

    candidates: int | None = None

    def __post_init__(self) -> None:
        check(self.candidates)

    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        chosen = draw(pool, self.candidates, k, rng)
        return lowest(chosen, confidence(all_logits(model, pool, chosen)), k) if len(chosen) else Query.nothing()
