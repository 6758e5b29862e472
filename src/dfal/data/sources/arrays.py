"""Arrays, memory maps and tensors, and FILE.npy."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dfal.data.image_array import Images
from dfal.data.sources.addresses import absolute, is_address
from dfal.data.sources.base import Source
from dfal.errors import DfalError, first_line

CHANNELS = (1, 3)
"""Numbers by which an array shows where its channels are."""


def recognises(data: Any) -> bool:
    """Return whether these are images in an array, or the name of a file with one."""
    if isinstance(data, str):
        return data.endswith(".npy") and not is_address(data)
    return isinstance(data, Images | Tensor | np.ndarray) or (
        all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__"))
        and not hasattr(data, "iloc")
    )


def open_source(data: Any) -> Source:
    """Open an array: channels first, uint8, or floating point as a network takes it.

    Raises:
        DfalError: for an array that holds no images, and a file that cannot be read.
    """
    if isinstance(data, str):
        return _of_file(Path(data))
    images = Images(_channels_first(data))
    return ArraySource("the array", len(images), _item(images), array=images)


class ArraySource(Source):
    """A source whose images are in an array already.

    Attributes:
        array: its images.
    """

    array: Images

    def __init__(self, *arguments: Any, array: Images, **attributes: Any):
        super().__init__(*arguments, **attributes)
        object.__setattr__(self, "array", array)


def _of_file(path: Path) -> Source:
    images = Images(_channels_first(_mapped(path)))
    labels_file = path.with_suffix(".labels.npy")
    labels = None
    if labels_file.is_file():
        labels = _mapped(labels_file)
        if labels.shape != (len(images),):
            raise DfalError(
                f"{labels_file} has the shape {labels.shape}, but a label is needed for each of"
                f" the {len(images)} images"
            )
        labels = labels.tolist()
    name = str(path)
    return ArraySource(name, len(images), _item(images), array=images, labels=labels)


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DfalError(f"there is no file or folder {path}: name one that is there") from None
    except Exception as error:  # changed bytes make a header fail in many ways
        raise DfalError(
            f"{absolute(str(path))} cannot be read ({first_line(error)}): write it with numpy.save"
        ) from error


def _channels_first(data: Any) -> Any:
    """Return a view (N, channels, height, width) of arrays (N, height, width[, channels])."""
    if not isinstance(data, Tensor | np.ndarray):
        return data
    if data.ndim == 4 and data.shape[3] in CHANNELS and data.shape[1] not in CHANNELS:
        return data.permute(0, 3, 1, 2) if isinstance(data, Tensor) else data.transpose(0, 3, 1, 2)
    return data[:, None] if data.ndim == 3 else data


def _item(images: Images) -> Any:
    def item(index: int) -> tuple[Any, None]:
        return images.raw(np.array([index]))[0], None

    return item
