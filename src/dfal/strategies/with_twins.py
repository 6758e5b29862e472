"""Adversarial twins for any strategy: images are chosen by one rule, twins added by another."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from dfal.attacks import DeepFool
from dfal.nn.evaluation import default_modes
from dfal.nn.network_input import device_of
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.query import Query


@dataclass(frozen=True)
class WithTwins:
    """Query what another strategy queries, and add the adversarial twin of each image.

    A twin is the perturbed image x + r that an attack finds just across the decision boundary; the
    network trains on it under the label of x. An image that the attack does not fool has none.

    Attributes:
        strategy: chooses the images.
        attack: finds the twins.

    Source: Ducoffe & Precioso 2018.
    Cost: that of the strategy, and the attack on k images.
    """

    strategy: Strategy
    attack: Attack = DeepFool()

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        query = self.strategy(model, pool, k, rng)
        if not len(query.indices):
            return query
        perturbation = self.attack(model, pool.images.take(query.indices, device_of(model)))
        fooled = perturbation.fooled.cpu()
        return replace(
            query, twinned=query.indices[fooled], twins=perturbation.images.cpu()[fooled]
        )
