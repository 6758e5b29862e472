"""Strategies of somebody's own, which `tests/stores/every-job.db` has by these names: neither they
nor their fields change."""

from dataclasses import dataclass

import torch
from torch import nn

import dfal


@dataclass(frozen=True)
class Mine:
    """A strategy with a setting of its own."""

    power: float = 2.5
    candidates: int | None = None

    def __call__(
        self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        return dfal.Random()(model, pool, k, rng)


def plain(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
    """A strategy that is a function."""
    return dfal.Random()(model, pool, k, rng)
