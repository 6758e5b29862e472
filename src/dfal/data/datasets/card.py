"""What a data set is: a card that says where it comes from, and the images and labels that its
loader returns."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError


@dataclass(frozen=True)
class Dataset:
    """A pool to ask about and a test set to measure on.

    Attributes:
        images, labels: the pool: what an oracle knows, and no strategy sees.
        test_images, test_labels: never trained on, never asked about.
        classes: the name of each class.
    """

    images: Images
    labels: Int64[Tensor, "n"]
    test_images: Images
    test_labels: Int64[Tensor, "m"]
    classes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything, shortened: a store remembers on which data its trials ran."""
        digest = hashlib.sha256()
        for images, labels in ((self.images, self.labels), (self.test_images, self.test_labels)):
            digest.update(repr(((len(images), *images.shape), images.array.dtype.str)).encode())
            for rows in np.array_split(np.arange(len(images)), -(-len(images) // CHUNK)):
                digest.update(np.ascontiguousarray(images.raw(rows)).data)
            digest.update(labels.numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Card:
    """Where a data set comes from and how large it is.

    Attributes:
        name: in the registry of data sets, whose line says what it is.
        origin, licence: of the images.
        pool, test: counts of images.
        image: channels, height, width in pixels.
        classes: their names.
        split: what is held out for testing.
        download: bytes to download, or None where there is nothing to download.
        get: what to do where it is not here and cannot be downloaded.
        sums: file → the checksum that its makers publish. Without any, that of the first download
        is recorded.
        where: the folder or file that holds it on this machine, or None.
        load: gives the data set, downloading it first where it must.
    """

    name: str
    origin: str
    licence: str
    pool: int
    test: int
    image: tuple[int, int, int]
    classes: tuple[str, ...]
    split: str
    download: int | None
    get: str
    sums: Mapping[str, str]
    where: Callable[[], Path | None]
    load: Callable[[], Dataset]


def stratified_split(
    labels: Int64[Tensor, "n"], test: float, seed: int
) -> tuple[Int64[Tensor, "p"], Int64[Tensor, "t"]]:
    """Indices of a pool and of a test set that takes the fraction `test` of every class, each
    ascending."""
    rng = torch.Generator().manual_seed(seed)
    held = []
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        held.append(
            members[torch.randperm(len(members), generator=rng)[: round(test * len(members))]]
        )
    out = torch.zeros(len(labels), dtype=torch.bool)
    out[torch.cat(held)] = True
    if out.all() or not out.any():
        raise DfalError(
            f"{len(labels)} images are too few to hold out {test:.0%} of each class for testing"
        )
    return (~out).nonzero().squeeze(1), out.nonzero().squeeze(1)
