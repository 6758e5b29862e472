"""Data sets in .npz files: `images` (N, H, W) or (N, H, W, C), and `labels` (N)."""

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfal.data.datasets.card import Dataset, stratified_split
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line

SPLIT_SEED = 0
"""Fixes the stratified fifth that is held out where the file has no test set."""
LABEL_LIMIT = 2**40
"""Labels must be below it."""
MAX_SCALED_VALUE = 16
"""Floating-point images without a negative value, and with one above this, are taken for bytes that
nobody scaled."""


def load(path: Path) -> Dataset:
    """Load a data set from an .npz file.

    `test_images` and `test_labels` are its test set, and `classes` the names of its classes, where
    the file has them.

    Raises:
        DfalError: for a file that is not there or no .npz, and for arrays that are missing or do
            not fit each other.
    """
    if not path.is_file():
        raise DfalError(f"there is no file {path}: name one that is there")
    arrays = _arrays(path)
    images, labels = _part("images", "labels", arrays, path)
    if "test_images" in arrays or "test_labels" in arrays:
        test_images, test_labels = _part("test_images", "test_labels", arrays, path)
        if test_images.shape != images.shape:
            raise DfalError(
                f"{path} has images of shape {images.shape} but test_images of shape"
                f" {test_images.shape}: one is needed"
            )
    else:
        pool, test = stratified_split(labels, test=0.2, seed=SPLIT_SEED)
        test_images, test_labels = Images(images, test.numpy()), labels[test]
        images, labels = Images(images, pool.numpy()), labels[pool]
    count, most = int(max(labels.max(), test_labels.max())) + 1, len(labels) + len(test_labels)
    if "classes" not in arrays and count > most:
        raise DfalError(
            f"{path} has the label {count - 1} but {most} images: number the classes from 0, or"
            " name them in 'classes'"
        )
    names = arrays.get("classes", np.arange(min(count, most)))
    if names.ndim != 1 or len(names) < count:
        raise DfalError(
            f"{path} names {names.size} classes but has the label {count - 1}: name them all, in"
            " one row 'classes'"
        )
    if len(names) < 2:
        raise DfalError(
            f"{path} has images of one class only, but two are needed: add images of another"
        )
    return Dataset(images, labels, test_images, test_labels, tuple(map(str, names)))


def _arrays(path: Path) -> "dict[str, NDArray[Any]]":
    """Return name → array of a file. Nothing is unpickled, and no memory is reserved in vain.

    Raises:
        DfalError: where the file cannot be read.
    """
    refusal = "cannot be read as .npz ({}): write it with numpy.savez"
    try:
        if not zipfile.is_zipfile(path):
            raise DfalError(f"{path} {refusal.format('it is not a zip archive')}")
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
        with np.load(path, allow_pickle=False) as file:
            return {name: array for name, array in file.items() if isinstance(array, np.ndarray)}
    except DfalError:
        raise
    except Exception as error:  # changed bytes make archives and headers fail in any way
        raise DfalError(f"{path} {refusal.format(first_line(error))}") from error


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Check the sizes of the arrays in an archive.

    Raises:
        DfalError: where all of them are larger than the machine's memory.
        ValueError: where an array has not the size that its header states.
    """
    total = sum(member.file_size for member in archive.infolist())
    if total > physical_memory():
        raise DfalError(
            f"{path} unpacks to {total / 2**30:.1f} GiB, more than this machine's memory: write it"
            " in parts"
        )
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            with archive.open(member) as file:
                shape, _, dtype = _header(file)
                if (
                    file.tell() + math.prod(shape) * dtype.itemsize != member.file_size
                    and not dtype.hasobject
                ):
                    raise ValueError(f"{member.filename} has not the size that its header says")


def _header(file: Any) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)


def physical_memory() -> int:
    """Return the bytes of this machine's memory; 2⁶² where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**62


def _part(
    images: str, labels: str, arrays: "dict[str, NDArray[Any]]", path: Path
) -> tuple[Images, Tensor]:
    for name in (images, labels):
        if name not in arrays:
            raise DfalError(
                f"{path} has no array {name!r}: it needs {images!r} and {labels!r}, and has"
                f" {sorted(arrays)}"
            )
    checked = _of_usual_size(_channels_first(arrays[images], path), path)
    return checked, _labels(arrays[labels], arrays[images], path)


def _labels(labels: NDArray[Any], images: NDArray[Any], path: Path) -> Tensor:
    if (
        labels.shape != images.shape[:1]
        or not np.issubdtype(labels.dtype, np.integer)
        or labels.size == 0
        or labels.min() < 0
    ):
        raise DfalError(
            f"{path} must have one label, a whole number from 0, for each of its {len(images)}"
            " images"
        )
    if labels.max() >= LABEL_LIMIT:
        raise DfalError(f"{path} has the label {labels.max()}: number the classes from 0")
    return torch.from_numpy(labels.astype(np.int64))


def _channels_first(images: NDArray[Any], path: Path) -> Images:
    if images.ndim == 3:
        return Images(images[:, None])
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return Images(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    cure = (
        ": write images.transpose(0, 2, 3, 1)"
        if images.ndim == 4 and images.shape[1] in (1, 3)
        else ""
    )
    raise DfalError(
        f"{path} has images of shape {images.shape}, but (N, height, width) or (N, height, width, 1"
        f" or 3) is needed{cure}"
    )


def _of_usual_size(images: Images, path: Path) -> Images:
    """Return the images, if their values have the usual size.

    Raises:
        DfalError: for floats as large as bytes, which no learning rate and no ε is meant for.
    """
    if (
        images.array.dtype != np.uint8
        and images.array.min() >= 0
        and (largest := images.array.max()) > MAX_SCALED_VALUE
    ):
        raise DfalError(
            f"{path} has floating-point images with values from 0 to {largest:g}: divide them by"
            " 255, or write uint8"
        )
    return images
