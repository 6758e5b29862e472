"""IDX files of bytes, the format of MNIST and of data sets in its form."""

import gzip
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

MAX_BYTES = 2**30
"""Of an unpacked file: MNIST has 47 million."""
MAX_DIMENSIONS = 8


def read(path: Path, sha256: str) -> NDArray[Any]:
    """Read an IDX file, memory-mapped where it is not packed.

    Args:
        path: of the file.
        sha256: that it must have unpacked.

    Raises:
        DfalError: where the file is damaged or another one.
    """
    raw = content(path)
    verify(raw.data, sha256, path)
    return array(raw, path)


def content(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file, unpacked where it ends in .gz.

    Raises:
        DfalError: where it cannot be read.
    """
    try:
        if path.suffix != ".gz":
            return np.memmap(path, np.uint8, "r")
        with gzip.open(path) as file:
            unpacked = file.read(MAX_BYTES + 1)
        if len(unpacked) > MAX_BYTES:
            raise DfalError(
                f"{path} cannot be read (it unpacks to more than {MAX_BYTES / 2**30:g} GiB): delete"
                " it and try again"
            )
        return np.frombuffer(unpacked, np.uint8)
    except DfalError:
        raise
    except Exception as error:  # changed bytes make gzip fail in many ways
        raise DfalError(
            f"{path} cannot be read ({first_line(error)}): delete it and try again"
        ) from error


def array(raw: NDArray[np.uint8], path: Path) -> NDArray[Any]:
    """Return the array of an IDX file of bytes.

    The file begins with two zero bytes, the type 8 and the number of dimensions; the dimensions
    follow as big-endian int32, and then the data.

    Args:
        raw: the bytes of the file.
        path: of the file, for the error.

    Raises:
        DfalError: for another format.
    """
    start = 4 + 4 * int(raw[3]) if len(raw) > 3 else 4
    shape = np.frombuffer(raw[4:start].tobytes(), ">i4").tolist() if len(raw) >= start else []
    good = raw[:3].tolist() == [0, 0, 8] and 0 < len(shape) <= MAX_DIMENSIONS and min(shape) >= 0
    if not good or len(raw) != start + math.prod(shape):
        raise DfalError(f"{path} is no IDX file of bytes: delete it and try again")
    return raw[start:].reshape(shape)


def dataset(arrays: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> Dataset:
    """Return a data set of four arrays.

    Args:
        arrays: images and labels of the pool, images and labels of the test set.
        classes: the name of each class.
    """
    images, labels, test_images, test_labels = arrays
    return Dataset(
        Images(images[:, None]),
        torch.from_numpy(labels.astype(np.int64)),
        Images(test_images[:, None]),
        torch.from_numpy(test_labels.astype(np.int64)),
        classes,
    )
