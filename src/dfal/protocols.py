"""Interfaces of attacks, strategies and oracles: any callable with such a signature will do."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.pool import Pool
from dfal.query import Perturbation, Query


@runtime_checkable
class Attack(Protocol):
    """Finds, for each image, a near one for which the network predicts another class."""

    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation: ...


@runtime_checkable
class Strategy(Protocol):
    """Selects k distinct images of `pool.unlabelled` to label, or all where there are fewer."""

    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query: ...


@runtime_checkable
class Oracle(Protocol):
    """Labels images: a class (0, 1, …) or DECLINED for each index of the pool, in their order."""

    def __call__(self, indices: Int64[Tensor, "k"]) -> Int64[Tensor, "k"]: ...
