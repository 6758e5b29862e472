"""Random choice: what every strategy has to beat."""

from dataclasses import dataclass

import torch
from torch import nn

from dfal.nn.inference import default_modes
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import sample_candidates


@dataclass(frozen=True)
class Random:
    """Asks about k images of U drawn uniformly. The network is not looked at, and all scores are
    0."""

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        chosen = sample_candidates(pool, k, k, rng)
        return Query(chosen, torch.zeros(len(chosen)))
