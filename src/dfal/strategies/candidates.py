"""What the strategies that rank images share: draw candidates, look at them in chunks, keep the best."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.networks import device_of, predict
from dfal.pool import Pool
from dfal.types import DfalError, Query

CHUNK = 4096
"""Images in memory at a time."""


def check(candidates: int | None) -> None:
    """Raise unless `candidates` is None or at least 1."""
    if candidates is not None and candidates < 1:
        raise DfalError(f"candidates = {candidates} leaves nothing to choose from: give 1 or more, or None for the whole pool")


def draw(pool: Pool, candidates: int | None, k: int, rng: torch.Generator) -> Int64[Tensor, "n"]:
    """K candidates of U at random and in random order, so that ties are broken at random; at least k; None for all."""
    unlabelled = pool.unlabelled
    shuffled = unlabelled[torch.randperm(len(unlabelled), generator=rng)]
    return shuffled if candidates is None else shuffled[: max(candidates, k)]


def chunks(
    pool: Pool, indices: Int64[Tensor, "n"], device: torch.device
) -> Iterator[tuple[Int64[Tensor, "m"], Float[Tensor, "m *image"]]]:
    """The images at `indices`, some thousand at a time."""
    for part in indices.split(CHUNK):
        yield part, pool.images.take(part, device)


def all_logits(model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"]) -> Float[Tensor, "n c"]:
    """The network's logits for the images at `indices`, on the CPU."""
    return torch.cat([predict(model, images).cpu() for _, images in chunks(pool, indices, device_of(model))])


def lowest(indices: Int64[Tensor, "n"], scores: Float[Tensor, "n"], k: int) -> Query:
    """Ask about the k with the lowest scores; the earlier wins a tie."""
    order = scores.sort(stable=True).indices[:k]
    return Query(indices[order], scores[order])


def highest(indices: Int64[Tensor, "n"], scores: Float[Tensor, "n"], k: int) -> Query:
    """Ask about the k with the highest scores; the earlier wins a tie."""
    order = scores.sort(stable=True, descending=True).indices[:k]
    return Query(indices[order], scores[order])
