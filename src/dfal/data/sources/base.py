"""What a way in for own images gives: images by their number, and labels."""

import importlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dfal.arguments import kind_of
from dfal.errors import DfalError

KEPT_BLOCKS = 2
"""Blocks of images that are in memory at a time."""
IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png", "pixel_values")
"""Names of a column of images, the first one that is there."""
LABEL_COLUMNS = ("label", "labels", "class", "target", "cls", "fine_label")
"""Names of a column of labels, the first one that is there."""


@dataclass(frozen=True)
class Source:
    """Images that are read one by one, by their number.

    Attributes:
        name: what the images come from, for sentences.
        count: how many images there are.
        item: number → the image and its label, which is None where `labels` has it or there is
            none. The image is the content of an image file, a picture of Pillow, an array (height,
            width[, channels]), or a tensor (channels, height, width).
        labels: of all images, numbers or names, where they are known without reading an image.
        classes: the names of labels that are numbers.
        in_test: whether each image belongs to the test set, where the source says so.
        key: returns a text by which a cache knows the images, another one where they have changed;
            None where there is none.
        in_threads: whether several threads may read at a time.
        path: number → the image's path in the source, where it has one.
    """

    name: str
    count: int
    item: Callable[[int], tuple[Any, Any]]
    labels: Sequence[Any] | None = None
    classes: tuple[str, ...] = ()
    in_test: Sequence[bool] | None = None
    key: Callable[[], str] | None = None
    in_threads: bool = True
    path: Callable[[int], str] | None = None

    def __post_init__(self) -> None:
        if not self.count:
            raise DfalError(f"{self.name} has no images: give one that has some")


class Blocks:
    """Images that are read many at a time; the last blocks stay in memory.

    Args:
        counts: how many images each block has.
        read: number of a block → its images, as a column of Arrow.
    """

    def __init__(self, counts: Sequence[int], read: Callable[[int], Any]):
        self._ends, self._read = list(accumulate(counts)), read
        self._lock, self._kept = threading.Lock(), dict[int, Any]()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def image(self, index: int) -> Any:
        """Return the content of an image file, or what else the column holds."""
        number = bisect_right(self._ends, index)
        with self._lock:
            if number not in self._kept:
                while len(self._kept) >= KEPT_BLOCKS:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[number] = self._read(number)
            rows = self._kept[number]
        value = rows[index - (self._ends[number - 1] if number else 0)].as_py()
        if not isinstance(value, dict):
            return value
        # A data set may name files instead of holding them.
        return value["bytes"] or Path(value["path"]).read_bytes()


def column(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first of the wanted columns that is there, whatever its case."""
    found = {name.casefold(): name for name in names}
    return next((found[name] for name in wanted if name in found), None)


def without_images(name: str, why: str) -> DfalError:
    """Return the one sentence about something that is no set of images."""
    return DfalError(
        f"{name} is no set of images ({why}): give arrays, image files, pictures, or a data set of"
        " (image, label)"
    )


def check_image(image: Any, name: str) -> None:
    """Check that something is an image: a file's content, a picture, or an array of pixels.

    Raises:
        DfalError: where it is not.
    """
    if isinstance(image, bytes) or hasattr(image, "getbands"):
        return
    if isinstance(image, Tensor | np.ndarray):
        kind = str(image.dtype).removeprefix("torch.")
        if image.ndim not in {2, 3} or not (kind == "uint8" or "float" in kind):
            raise without_images(name, f"its items are {kind} of shape {tuple(image.shape)}")
        return
    raise without_images(name, f"its items are of the kind {kind_of(image)}")


def package(name: str, source: str, extra: str) -> Any:
    """Import the package that a source needs.

    Raises:
        DfalError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DfalError(
            f"{source} needs {name.partition('.')[0]}: pip install 'dfal[{extra}]'"
        ) from None
