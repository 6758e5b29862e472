"""Any images as one .npz file: `images` (N, H, W) or (N, H, W, C), `labels` (N), and if there is one a test set."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfal.datasets.card import Dataset, stratified_split
from dfal.images import Images
from dfal.types import DfalError

SPLIT_SEED = 0
"""Fixes the stratified fifth that is held out where the file has no test set."""


def load(path: Path) -> Dataset:
    """Read `images` and `labels`, if there `test_images` and `test_labels`, and if there `classes`, their names.

    Raises:
        DfalError: for a file that is not there or no .npz, and for arrays that are missing or do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise DfalError(f"there is no file {path}: name one that is there") from None
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise DfalError(f"{path} cannot be read as .npz ({error}): write it with numpy.savez") from None
    for name in ("images", "labels"):
        if name not in arrays:
            raise DfalError(f"{path} has no array {name!r}: it needs 'images' and 'labels', and has {sorted(arrays)}")
    images, labels = arrays["images"], _labels(arrays["labels"], arrays["images"], path)
    if "test_images" in arrays and "test_labels" in arrays:
        test_images, test_labels = arrays["test_images"], _labels(arrays["test_labels"], arrays["test_images"], path)
    else:
        pool, test = stratified_split(labels, test=0.2, seed=SPLIT_SEED)
        test_images, test_labels = images[test.numpy()], labels[test]
        images, labels = images[pool.numpy()], labels[pool]
    count = int(max(labels.max(), test_labels.max())) + 1
    classes = tuple(str(name) for name in arrays.get("classes", np.arange(count)))
    if len(classes) < count:
        raise DfalError(f"{path} names {len(classes)} classes but has the label {count - 1}: name them all")
    return Dataset(_channels_first(images, path), labels, _channels_first(test_images, path), test_labels, classes)


def _labels(labels: NDArray[Any], images: NDArray[Any], path: Path) -> Tensor:
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.size == 0 or labels.min() < 0:
        raise DfalError(f"{path} must have one label, a whole number from 0, for each of its {len(images)} images")
    return torch.from_numpy(labels.astype(np.int64))


def _channels_first(images: NDArray[Any], path: Path) -> Images:
    if images.ndim == 3:
        return Images(images[:, None])
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return Images(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    raise DfalError(f"{path} has images of shape {images.shape}: (N, height, width) or (N, height, width, 1 or 3) is needed")
