"""What can be exchanged: attacks, strategies and whoever answers. Any callable of this shape will
do."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.pool import Pool
from dfal.query import Perturbation, Query


@runtime_checkable
class Attack(Protocol):
    """Finds for each image a nearby one that the network takes for another class."""

    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation: ...


@runtime_checkable
class Strategy(Protocol):
    """Chooses at most k distinct images of `pool.unlabelled` to ask about: all that are left where
    there are fewer."""

    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query: ...


@runtime_checkable
class Oracle(Protocol):
    """Answers: one class (0, 1, …) or DECLINED for each index of the data set, in the order
    asked."""

    def __call__(self, indices: Int64[Tensor, "k"]) -> Int64[Tensor, "k"]: ...
