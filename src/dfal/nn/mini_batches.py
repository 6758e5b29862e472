"""The order in which a training takes its images: mini-batches, epoch by epoch."""

import itertools
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.nn.training_settings import Training
from dfal.nn.training_steps import shuffled_cycles


def count_steps(count: int, settings: Training, least: int) -> int:
    """Return the number of steps of a training.

    Args:
        count: how many rows it has.
        settings: how it is trained.
        least: the least number of steps; 0 where the epochs alone decide.
    """
    return max(least, settings.epochs * -(-count // settings.training_batch))


def epochs(
    count: int,
    settings: Training,
    least: int,
    *,
    normed: bool = False,
    device: torch.device | str = "cpu",
    rng: torch.Generator | None = None,
) -> Iterator[Iterable[Int64[Tensor, "b"]]]:
    """Yield the mini-batches of each epoch, after which the hold-out is looked at.

    Where a number of steps is asked for all of them are full, so that few labels do not lead to
    steps on fewer still.

    Args:
        count: how many rows there are.
        settings: how the network is trained.
        least: the least number of steps; 0 where the epochs alone decide.
        normed: whether the network has batch norm that is trained.
        device: of the mini-batches, on which they are drawn.
        rng: draws the orders; PyTorch's own generator by default.
    """
    size = settings.training_batch
    if not least:
        for _ in range(settings.epochs):
            order = torch.randperm(count, generator=rng, device=device)
            yield _mini_batches(order, size, normed)
        return
    full = shuffled_cycles(count, size, device, rng)
    steps, each = count_steps(count, settings, least), -(-count // size)
    for start in range(0, steps, each):
        yield itertools.islice(full, min(each, steps - start))


def _mini_batches(order: Int64[Tensor, "n"], size: int, normed: bool) -> list[Int64[Tensor, "b"]]:
    """Split the order into mini-batches.

    Where the network has batch norm, which cannot be trained on one image, a last mini-batch of one
    image joins the one before it.
    """
    batches: list[Tensor] = list(order.split(size))
    if not normed or len(batches) < 2 or len(batches[-1]) > 1:
        return batches
    return [*batches[:-2], torch.cat(batches[-2:])]
