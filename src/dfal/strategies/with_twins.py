"""Adversarial twins for any strategy: choosing whom to ask and learning from each answer twice are
two things."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from dfal.attacks import DeepFool
from dfal.nn.inference import default_modes, device_of
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.query import Query


@dataclass(frozen=True)
class WithTwins:
    """Asks what `strategy` asks, and adds the adversarial example of each asked image that the
    attack fools.

    Cost: that of the strategy, and the attack on k images.
    """

    strategy: Strategy
    attack: Attack = DeepFool()

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        query = self.strategy(model, pool, k, rng)
        if not len(query.indices):
            return query
        found = self.attack(model, pool.images.take(query.indices, device_of(model)))
        fooled = found.fooled.cpu()
        return replace(query, twinned=query.indices[fooled], twins=found.images.cpu()[fooled])
