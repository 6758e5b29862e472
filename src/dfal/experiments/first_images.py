"""Choose the first images of a trial, before there is a network."""

import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.data.image_array import Images
from dfal.semisupervised.space import fit_space
from dfal.strategies.base import k_means, seed_from
from dfal.strategies.clusters import most_typical

CANDIDATES = 10_000
"""Images among which typical ones are chosen, sampled at random."""
COMPONENTS = 50
"""Principal components of the pixels in which images are compared."""
NEIGHBOURS = 20
"""Nearest images of its cluster that an image is compared with."""


def random_images(images: Images, k: int, rng: torch.Generator) -> Int64[Tensor, "k"]:
    """Return k images at random."""
    return torch.randperm(len(images), generator=rng)[:k]


def typical_images(images: Images, k: int, rng: torch.Generator) -> Int64[Tensor, "k"]:
    """Return the most typical image of each of k clusters of the pixels.

    Args:
        images: the pool; features are clustered as pixels are.
        k: how many.
        rng: decides which images are considered, and the first centres.

    Source: Hacohen, Dekel & Weinshall 2022, in principal components of unit length.
    """
    sample = torch.randperm(len(images), generator=rng)[: max(CANDIDATES, k)]
    pixels = images.take(sample).flatten(1).numpy()
    rows = torch.from_numpy(fit_space(pixels, COMPONENTS, standardise=False)(pixels))
    cluster = k_means(rows, min(k, len(rows)), seed_from(rng))
    order, _ = most_typical(rows, len(rows), cluster, k, NEIGHBOURS)
    return sample[order]
