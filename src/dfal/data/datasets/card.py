"""Data sets, and their cards, which say where they come from."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError


@dataclass(frozen=True)
class Originals:
    """Images as they were before they were fitted into the size of a data set.

    Attributes:
        key: a text that is another one where they have changed.
        read: (indices, (channels, height, width)) → the images in that size, as bytes; those of the
            pool come first, then those of the test set.
    """

    key: str
    read: Callable[[Int64[np.ndarray, "n"], tuple[int, int, int]], UInt8[np.ndarray, "n c h w"]]


@dataclass(frozen=True)
class Dataset:
    """A pool to select images from and a test set to measure accuracy on.

    Attributes:
        images: of the pool.
        labels: of the pool, which the oracle knows and no strategy sees.
        test_images: never trained on and never queried.
        test_labels: their classes.
        classes: the name of each class.
        files: the original of each image, of the pool and then of the test set; empty where they
            are no files.
        originals: reads the originals of images that are no files, such as those in Parquet; None
            where there are none.
    """

    images: Images
    labels: Int64[Tensor, "n"]
    test_images: Images
    test_labels: Int64[Tensor, "m"]
    classes: tuple[str, ...]
    files: tuple[Path, ...] = ()
    originals: Originals | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Return a short SHA-256 of images and labels, by which a store knows its data."""
        digest = hashlib.sha256()
        for images, labels in ((self.images, self.labels), (self.test_images, self.test_labels)):
            digest.update(repr(((len(images), *images.shape), images.array.dtype.str)).encode())
            for rows in np.array_split(np.arange(len(images)), -(-len(images) // CHUNK)):
                digest.update(np.ascontiguousarray(images.raw(rows)).data)
            digest.update(labels.numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Card:
    """Describe a data set: its origin, its size, and how to get it.

    Attributes:
        name: in the registry of data sets, whose line says what it is.
        origin: of the images: who made them, and where they are published.
        licence: of the images.
        pool: number of images of the pool.
        test: number of images of the test set.
        image: channels, height, width in pixels.
        classes: their names.
        split: which images are the test set.
        download: bytes to download, or None where there is nothing to download.
        get: how to get it where it cannot be downloaded.
        sums: file → the checksum that its makers publish. Where there is none, that of the first
            download is recorded.
        where: returns the folder or file that holds it on this machine, or None.
        load: returns the data set, which is downloaded first if need be.
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
    """Split images at random into a pool and a test set with the same proportions of classes.

    Args:
        labels: the class of each image.
        test: the fraction of every class that the test set takes.
        seed: fixes the split.

    Returns:
        The ascending indices of the pool, and those of the test set.

    Raises:
        DfalError: where one of the two would be empty.
    """
    rng = torch.Generator().manual_seed(seed)
    in_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(members), generator=rng)
        in_test[members[order[: round(test * len(members))]]] = True
    if in_test.all() or not in_test.any():
        raise DfalError(
            f"{len(labels)} images are too few to hold out {test:.0%} of each class for testing"
        )
    return (~in_test).nonzero().squeeze(1), in_test.nonzero().squeeze(1)
