"""IDX files of bytes, which MNIST and those that took its form come as."""

import gzip
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfal.data.datasets.card import Dataset
from dfal.data.datasets.download import verify
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line

LARGEST = 2**30
"""Bytes of an unpacked file: MNIST has 47 million."""
MOST_DIMENSIONS = 8


def read(path: Path, sha256: str) -> NDArray[Any]:
    """The array of an IDX file that has this SHA-256, unpacked; memory-mapped where it is not
    packed.

    Raises:
        DfalError: for a file that is damaged or another.
    """
    raw = content(path)
    verify(raw.data, sha256, path)
    return array(raw, path)


def content(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, unpacked where it ends in .gz."""
    try:
        if path.suffix != ".gz":
            return np.memmap(path, np.uint8, "r")
        with gzip.open(path) as file:
            unpacked = file.read(LARGEST + 1)
        if len(unpacked) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST / 2**30:g} GiB")
        return np.frombuffer(unpacked, np.uint8)
    except Exception as error:  # changed bytes make gzip fail in many ways
        raise DfalError(
            f"{path} cannot be read ({first_line(error)}): delete it and try again"
        ) from error


def array(raw: NDArray[np.uint8], path: Path) -> NDArray[Any]:
    """Two zero bytes, the type 8, the number of dimensions, each as a big-endian int32, then the
    data."""
    start = 4 + 4 * int(raw[3]) if len(raw) > 3 else 4
    shape = np.frombuffer(raw[4:start].tobytes(), ">i4").tolist() if len(raw) >= start else []
    good = raw[:3].tolist() == [0, 0, 8] and 0 < len(shape) <= MOST_DIMENSIONS and min(shape) >= 0
    if not good or len(raw) != start + math.prod(shape):
        raise DfalError(f"{path} is no IDX file of bytes: delete it and try again")
    return raw[start:].reshape(shape)


def digest(raw: NDArray[np.uint8]) -> str:
    """The SHA-256 of the bytes."""
    return hashlib.sha256(raw.data).hexdigest()


def dataset(arrays: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> Dataset:
    """Images and labels to ask about, then images and labels to measure on."""
    images, labels, test_images, test_labels = arrays
    return Dataset(
        Images(images[:, None]),
        torch.from_numpy(labels.astype(np.int64)),
        Images(test_images[:, None]),
        torch.from_numpy(test_labels.astype(np.int64)),
        classes,
    )
