"""Choose the first images of a trial, before there is a network."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dfal.data.image_array import Images
from dfal.strategies.base import k_means, principal_components, seed_from
from dfal.strategies.clusters import most_typical

CANDIDATES = 10_000
"""Images among which typical ones are chosen, sampled at random."""
NEIGHBOURS = 20
"""Nearest images of its cluster that an image is compared with."""


def random_images(images: Images, k: int, rng: torch.Generator) -> Int64[Tensor, "k"]:
    """Return k images at random."""
    return torch.randperm(len(images), generator=rng)[:k]


def typical_images(
    images: Images,
    k: int,
    rng: torch.Generator,
    rows_of: Callable[[Float[Tensor, "n *image"]], Float[Tensor, "n d"]] | None = None,
) -> Int64[Tensor, "k"]:
    """Return the most typical image of each of k clusters.

    Args:
        images: the pool; features are clustered as pixels are.
        k: how many.
        rng: decides which images are considered, and the first centres.
        rows_of: returns a row of length 1 for each image, alike for images that are alike; the
            principal components of the pixels by default.

    Source: Hacohen, Dekel & Weinshall 2022.
    """
    sample = torch.randperm(len(images), generator=rng)[: max(CANDIDATES, k)]
    considered = images.take(sample)
    rows = rows_of(considered) if rows_of else principal_components(considered.flatten(1))
    cluster = k_means(rows, min(k, len(rows)), seed_from(rng))
    order, _ = most_typical(rows, len(rows), cluster, k, NEIGHBOURS)
    return sample[order]
