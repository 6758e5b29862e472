"""Random sampling: the baseline of every comparison."""

from dataclasses import dataclass

import torch
from torch import nn

from dfal.nn.evaluation import default_modes
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import sample_candidates


@dataclass(frozen=True)
class Random:
    """Query k images of U, sampled uniformly.

    The network does not run, and all scores are 0.

    Source: none.
    Cost: no forward pass.
    """

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        chosen = sample_candidates(pool, k, k, rng)
        return Query(chosen, torch.zeros(len(chosen)))
