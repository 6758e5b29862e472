"""Read all images of a source into one array, in memory or in a file that is mapped."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from dfal.data.datasets.download import writing
from dfal.data.image_array import Images
from dfal.data.sources.arrays import ArraySource
from dfal.data.sources.base import Source
from dfal.data.sources.classes import numbered
from dfal.data.sources.decoder import Decoder
from dfal.data.sources.opening import open_source

BLOCK_IMAGES = 256
"""Images that are read before they are stored together."""
MEMORY_BYTES = 2**30
"""Size up to which images are kept in memory; larger ones go to a file of the user's cache."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of one shape, and their labels where there are some.

    Attributes:
        images: all images.
        labels: the class of each; None where the source has no labels.
        classes: the names of the classes.
    """

    images: Images
    labels: Int64[Tensor, "n"] | None
    classes: tuple[str, ...]


def read(
    data: Any,
    *,
    size: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LabelledImages:
    """Read images and labels from anything that `SOURCES` lists.

    Images are bytes (uint8) unless they come as floating point, or from `transform`, or are
    normalised. More than a gigabyte of them is kept in a file that vanishes with the process.

    Args:
        data: a name, an address, or an object.
        size: side in pixels into which images are fitted as a whole; by default they keep their
            own size, which must be the same for all.
        transform: called with each picture (of Pillow where the data are image files or pictures,
            or else as it is); returns an array or tensor.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which the difference is divided.

    Raises:
        DfalError: for what is no set of images, images of several sizes without `size`, and what
            cannot be read.
    """
    source = open_source(data)
    plain = size is None and transform is None and mean is None and std is None
    if plain and isinstance(source, ArraySource):
        images, found = source.array, source.labels
    else:
        decoder = Decoder(source, size, transform=transform, mean=mean, std=std)
        images, from_items = collect(source, decoder)
        found = from_items if source.labels is None else source.labels
    labels, classes = numbered(found, source.classes, source.name) if found else (None, ())
    return LabelledImages(images, labels, classes)


def images_of(data: Any, **settings: Any) -> Images:
    """Return the images of `read`."""
    return read(data, **settings).images


def collect(source: Source, decoder: Decoder) -> tuple[Images, list[Any] | None]:
    """Read every image of a source, in memory or into a file without a name.

    Returns:
        The images, and the labels that came with them; None where no image had one.
    """
    labels: list[Any] = []
    shape = (source.count, *decoder.shape)
    blocks = decoded_blocks(source, decoder, labels)
    if np.dtype(decoder.dtype).itemsize * np.prod(shape) <= MEMORY_BYTES:
        array: NDArray[Any] = np.empty(shape, decoder.dtype)
        start = 0
        for block in blocks:
            array[start : start + len(block)] = block
            start += len(block)
    else:
        folder = Path(platformdirs.user_cache_dir("dfal"))
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Not by a memory map: on a full disk that ends the process instead of raising an error.
            with tempfile.TemporaryFile(dir=folder) as file:
                for block in blocks:
                    file.write(np.ascontiguousarray(block).data)
                file.flush()
                array = np.memmap(file, decoder.dtype, "r", shape=shape)
    return Images(array), labels if any(label is not None for label in labels) else None


def decoded_blocks(
    source: Source, decoder: Decoder, labels: list[Any] | None = None, start: int = 0
) -> Iterator[NDArray[Any]]:
    """Yield the images of a source, some at a time, and append their labels to a list."""
    threads = torch.get_num_threads() if source.in_threads else 1
    with ThreadPoolExecutor(threads) as executor:
        for first in range(start, source.count, BLOCK_IMAGES):
            indices = range(first, min(first + BLOCK_IMAGES, source.count))
            items = executor.map(decoder, indices) if threads > 1 else map(decoder, indices)
            images, found = zip(*items, strict=True)
            if labels is not None:
                labels += found
            yield np.stack(images)
