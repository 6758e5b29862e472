"""How many images are in memory, and go through a network, at a time."""

import math
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from dfal.data.image_array import Images

CHUNK_IMAGES = 4096
"""Images in memory at a time, fewer where they are large."""
CHUNK_PASSES = 4
"""Forward passes that the images in memory at a time are enough for."""
PASS_BYTES = 16 * 2**20
"""Bytes of the images, in float32, of one forward pass on a CPU; the activations of a residual
network are some twelve times as large."""
GPU_PASS_BYTES = 8 * PASS_BYTES
"""The same on any other device, which small passes would leave idle."""


def images_a_pass(images: Float[Tensor, "n *image"], most: int = 1024) -> int:
    """Return how many images to compute at a time: fewer where they are large.

    Args:
        images: a batch of them, on the device where they are computed.
        most: the largest number, which small images are computed by.
    """
    size = 4 * max(1, math.prod(images.shape[1:]))
    limit = PASS_BYTES if images.device.type == "cpu" else GPU_PASS_BYTES
    return max(1, min(most, limit // size))


def gathered(parts: Iterable[Shaped[Tensor, "m ..."]], n: int) -> Shaped[Tensor, "n ..."]:
    """Concatenate parts as they come, without holding all of them and their copy at a time.

    Args:
        parts: one or more, the first of which tells shape, type and device of a row.
        n: how many rows they have together.
    """
    whole, start = None, 0
    for part in parts:
        if whole is None:
            whole = part.new_empty(n, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    assert whole is not None  # noqa: S101  every caller has a part
    return whole


def image_chunks(
    images: Images, indices: Int64[Tensor, "n"], device: torch.device | str = "cpu"
) -> Iterator[tuple[Int64[Tensor, "m"], Float[Tensor, "m *image"]]]:
    """Yield indices with their images on a device, at most `CHUNK_IMAGES` at a time."""
    example = torch.empty(0, *images.shape, device=device)
    for chunk in indices.split(CHUNK_PASSES * images_a_pass(example, CHUNK_IMAGES // CHUNK_PASSES)):
        yield chunk, images.take(chunk, device)
