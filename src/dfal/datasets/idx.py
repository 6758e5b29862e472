"""IDX files of bytes, which MNIST and those that took its form come as."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfal.datasets.card import Dataset
from dfal.datasets.download import verify
from dfal.images import Images
from dfal.types import DfalError


def read(path: Path, sha256: str) -> NDArray[Any]:
    """The array of an IDX file that has this SHA-256, unpacked; memory-mapped where it is not packed.

    Raises:
        DfalError: for a file that is damaged or another.
    """
    raw = content(path)
    verify(raw.data, sha256, path)
    return array(raw, path)


def content(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, unpacked where it ends in .gz."""
    try:
        packed = path.suffix == ".gz"
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) if packed else np.memmap(path, np.uint8, "r")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DfalError(f"{path} cannot be read ({error}): delete it and try again") from None


def array(raw: NDArray[np.uint8], path: Path) -> NDArray[Any]:
    """Two zero bytes, the type 8, the number of dimensions, each as a big-endian int32, then the data."""
    start = 4 + 4 * int(raw[3]) if len(raw) > 3 else 4
    shape = np.frombuffer(raw[4:start].tobytes(), ">i4") if len(raw) >= start else np.empty(0)
    if raw[:3].tolist() != [0, 0, 8] or len(raw) != start + shape.prod(dtype=np.int64):
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
