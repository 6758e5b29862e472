"""The data of trials: those of a data set, resized, or the features that a backbone gives them."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from dfal import backbones
from dfal.data import datasets
from dfal.data.computed_rows import map_rows
from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.data.image_files import Unavailable, fitted
from dfal.data.progress_bar import progress_bar
from dfal.data.resizing import resized
from dfal.errors import DfalError
from dfal.experiments.featuriser import Featuriser, Shape, describe
from dfal.seeding import fork_rng

BATCH = 32
"""Images that pass through a backbone at a time."""
FORMAT = 2
"""Raised when the same images and backbone give other rows than before."""


def load(dataset: str, backbone: str = "", size: int = 0, device: str = "cpu") -> Dataset:
    """Load a data set as trials see it; what must be computed for it is computed once.

    Args:
        dataset: as `datasets.load` takes it.
        backbone: whose features take the place of the images; none where it is empty.
        size: side in pixels to which images are resized, for the backbone or for the network; 0:
            as the backbone takes them, or as the data set has them.
        device: where the backbone runs.

    Raises:
        DfalError: where the data set or the backbone cannot be loaded, or do not fit.
    """
    data = datasets.load(dataset)
    return _derived(data, backbone, size, torch.device(device).type) if backbone or size else data


def stand_in(dataset: str, backbone: str, size: int) -> Dataset:
    """Return noise of the form that `load` returns, with the data set's labels.

    Raises:
        DfalError: where the data set or the backbone cannot be loaded, or do not fit.
    """
    data = datasets.load(dataset)
    shape: tuple[int, ...] = Reader(data, image_shape(data, backbone, size)).shape
    if backbone:
        shape = (describe(backbone, shape).dimensions,)
    pool = len(data.images)
    # A row for each image, of which only the first are different.
    noise = np.random.default_rng(0).random((min(pool, 64), *shape), np.float32)
    rows = np.arange(pool) % len(noise)
    return replace(data, images=Images(noise, rows))


_LAST: list[tuple[Dataset, tuple[str, int, str], Dataset]] = []
"""The last data set, its settings, and what was made of it."""


def forget() -> None:
    """Read files and backbones anew the next time."""
    _LAST.clear()
    describe.cache_clear()


def _derived(data: Dataset, backbone: str, size: int, device: str) -> Dataset:
    """Return `_compute`'s result, of which the last is kept as `datasets.load` keeps its own."""
    settings = (backbone, size, device)
    if not (_LAST and _LAST[0][0] is data and _LAST[0][1] == settings):
        _LAST[:] = [(data, settings, _compute(data, *settings))]
    return _LAST[0][2]


def _compute(data: Dataset, backbone: str, size: int, device: str) -> Dataset:
    pool, test = len(data.images), len(data.test_images)
    reader = Reader(data, image_shape(data, backbone, size))
    if backbone:
        description = f"features by {backbone}"
        described = describe(backbone, reader.shape)
        source = [described.layers, hashlib.sha256(repr(described.probe).encode()).hexdigest()]
        row: tuple[int, ...] = (described.features,)
        name = f"{backbone}-{reader.shape[1]}"
    else:
        source, row, name = [], reader.shape, f"pixels-{size}"
        description = f"resizing to {size} × {size} pixels"
    key = json.dumps([FORMAT, data.fingerprint, reader.sizes, reader.shape, device, *source])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "_", name)
    path = Path(platformdirs.user_cache_dir("dfal")) / "features" / f"{name}-{digest}.npy"

    def rows_from(start: int) -> Iterator[NDArray[Any]]:
        of_batch: Callable[[NDArray[np.int64]], NDArray[Any]]
        of_batch = (
            Featuriser(backbone, reader.shape, reader.floats, device) if backbone else reader.bytes
        )
        with progress_bar() as progress:
            task = progress.add_task(description, total=pool + test, completed=start)
            batches = [
                np.arange(first, min(first + BATCH, pool + test))
                for first in range(start, pool + test, BATCH)
            ]
            for block in _in_threads(of_batch, batches):
                yield block
                progress.advance(task, len(block))

    def standardised(rows: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[np.float16]]:
        with fork_rng(0):
            space = backbones.load(backbone, reader.shape).space(rows[:pool])
        return lambda some: space(some).astype(np.float16)

    rows = map_rows(
        path,
        (pool + test, *row),
        np.float32 if backbone else np.uint8,
        rows_from,
        standardised if backbone else None,
    )
    return replace(
        data,
        images=Images(rows, np.arange(pool)),
        test_images=Images(rows, np.arange(pool, pool + test)),
    )


def image_shape(data: Dataset, backbone: str, size: int) -> Shape:
    """Return channels, height and width of images as a backbone or a network takes them.

    Raises:
        DfalError: for data that are no images, and for a backbone that cannot be loaded.
    """
    if len(data.images.shape) != 3:
        raise DfalError(
            f"the data have the shape {data.images.shape} and are no images (channels, height,"
            " width): leave out --backbone and --size"
        )
    c, h, w = data.images.shape
    if backbone and backbone != "pixels":  # these have a size of their own
        c, h, w = backbones.load(backbone).image
    return (c, size, size) if size else (c, h, w)


class Reader:
    """Reads the images of a data set as a backbone or network takes them.

    Originals in files are read in that size, and are not enlarged from the data set's own.

    Args:
        data: the data set.
        shape: channels, height and width of what is read.
    """

    def __init__(self, data: Dataset, shape: Shape):
        self._data, self.shape = data, shape
        self.sizes: list[Any] = [file.stat().st_size for file in data.files]
        if data.originals:
            self.sizes.append(data.originals.key)

    def floats(self, indices: Int64[np.ndarray, "n"]) -> Float[Tensor, "n c h w"]:
        """Return images with pixels in [0, 1], those of the test set after those of the pool.

        Raises:
            DfalError: for a file that cannot be read, and for pixels outside [0, 1].
        """
        if self._data.files or self._data.originals:
            return torch.from_numpy(self.bytes(indices)).float() / 255
        pool = len(self._data.images)
        images = torch.cat(
            [
                self._data.images.take(torch.from_numpy(indices[indices < pool])),
                self._data.test_images.take(torch.from_numpy(indices[indices >= pool] - pool)),
            ]
        )
        if images.min() < 0 or images.max() > 1:
            raise DfalError(
                f"the images have pixels from {float(images.min()):.3g} to"
                f" {float(images.max()):.3g}, but --backbone and --size need 0 to 1: scale them, or"
                " store them as uint8"
            )
        return resized(images, self.shape)

    def bytes(self, indices: Int64[np.ndarray, "n"]) -> NDArray[np.uint8]:
        """Return the same images with pixels from 0 to 255."""
        if self._data.originals:
            return self._data.originals.read(indices, self.shape)
        if self._data.files:
            return self._from_files(indices)
        return (self.floats(indices) * 255).round().to(torch.uint8).numpy()

    def _from_files(self, indices: Int64[np.ndarray, "n"]) -> NDArray[np.uint8]:
        c, h, w = self.shape
        images = []
        for index in indices:
            file = self._data.files[index]
            try:
                images.append(fitted(file, (h, w), c).transpose(2, 0, 1))
            except (Unavailable, ValueError) as error:
                raise DfalError(f"{file}: {error}") from error
        return np.ascontiguousarray(np.stack(images))


def _in_threads(
    of_batch: Callable[[NDArray[np.int64]], NDArray[Any]],
    batches: list[NDArray[np.int64]],
) -> Iterator[NDArray[Any]]:
    """Yield the result of each batch, in order.

    As many are computed at a time as PyTorch uses threads, each with one thread, so that a result
    does not depend on their number.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as executor:
            ahead = [executor.submit(of_batch, batch) for batch in batches[: 2 * threads]]
            rest = iter(batches[2 * threads :])
            try:
                while ahead:
                    yield ahead.pop(0).result()
                    ahead += [executor.submit(of_batch, batch) for batch in islice(rest, 1)]
            finally:
                executor.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)
