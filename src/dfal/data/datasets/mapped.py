"""Large data sets, written once as two .npy files in the user's cache and then memory-mapped."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from dfal.atomic import atomic_write
from dfal.data.datasets.card import Dataset
from dfal.data.datasets.download import fetch, find, folder_with, folders, writing
from dfal.data.image_array import CHUNK, Images
from dfal.data.progress_bar import progress_bar
from dfal.errors import DfalError, first_line

POOL, TEST = "pool.npy", "test.npy"


@dataclass(frozen=True)
class ClassFiles:
    """A data set that its makers publish as one file for each class.

    Attributes:
        name: of the data set.
        mirrors, packed: where and how the files are published, as in `fetch`.
        files: class → name of its file.
        counts: class → number of images in its file.
        pool: class → number of images of the pool, the first of its file. The others are the test
            set.
        image: channels, height, width.
        stored: the shape of an image in the files.
        open_images: opens a file: an array of its images (N, *stored).
        channels_first: turns images (n, *stored) to (n, channels, height, width), or to another
            shape with the values in that order.
    """

    name: str
    mirrors: list[str]
    packed: str
    files: Mapping[str, str]
    counts: Mapping[str, int]
    pool: Mapping[str, int]
    image: tuple[int, int, int]
    stored: tuple[int, ...]
    open_images: Callable[[Path], AbstractContextManager[Any]]
    channels_first: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def test(self) -> dict[str, int]:
        """Return class → number of images of the test set."""
        return {name: count - self.pool[name] for name, count in self.counts.items()}

    def written(self) -> Path | None:
        """Return the folder that holds the data set as we write it, if there is one."""
        folder = folders(self.name)[-1]
        return folder if (folder / POOL).is_file() and (folder / TEST).is_file() else None

    def where(self) -> Path | None:
        """Return the folder that holds the data set, as we write it or as it is published."""
        return self.written() or folder_with(self.name, self.files.values())

    def load(self) -> Dataset:
        """Map the data set; it is downloaded and written in our form first if need be.

        Raises:
            DfalError: where a download fails, the disk is full, or a file is damaged or holds other
                counts.
        """
        if self.written() is None:
            paths = {
                name: find(self.name, file)
                or fetch(self.name, file, self.mirrors, packed=self.packed)
                for name, file in self.files.items()
            }
            for file, counts in ((POOL, self.pool), (TEST, self.test)):
                shape = (sum(counts.values()), *self.image)
                write(self.name, file, shape, self._blocks(paths, of_pool=file == POOL))
            _remove_downloads(self.name, paths.values())
        folder = folders(self.name)[-1]
        pool, test = (
            _map_images(folder / file, (sum(counts.values()), *self.image))
            for file, counts in ((POOL, self.pool), (TEST, self.test))
        )
        return Dataset(
            pool, _labels(self.pool), test, _labels(self.test), classes=tuple(self.counts)
        )

    def _blocks(self, paths: Mapping[str, Path], of_pool: bool) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of the pool or of the test set, `CHUNK` of a class at a time."""
        for name, path in paths.items():
            border, count = self.pool[name], self.counts[name]
            start, stop = (0, border) if of_pool else (border, count)
            try:
                with self.open_images(path) as images:
                    _check_form(images, (count, *self.stored), path)
                    for first in range(start, stop, CHUNK):
                        yield self.channels_first(images[first : min(first + CHUNK, stop)])
            except DfalError:
                raise
            except Exception as error:  # changed bytes make a header fail in many ways
                raise _unreadable(path, error) from error


def write(
    name: str, file: str, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]
) -> None:
    """Write one of the two files; it has its name only when it is whole.

    Args:
        name: of the data set.
        file: `POOL` or `TEST`.
        shape: N, channels, height, width.
        blocks: the images, some at a time.

    Raises:
        DfalError: where the disk is full or cannot be written.
    """
    path = folders(name)[-1] / file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path, "free some space, and try again") as part,
        part.open("wb") as out,
        progress_bar() as progress,
    ):
        task = progress.add_task(f"writing {file} of {name}", total=shape[0])
        # Not by a memory map: on a full disk that ends the process instead of raising an error.
        np.lib.format.write_array_header_1_0(
            out, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for block in blocks:
            out.write(np.ascontiguousarray(block).data)
            progress.advance(task, len(block))


def _map_images(path: Path, shape: tuple[int, ...]) -> Images:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # changed bytes make a header fail in many ways
        raise _unreadable(path, error) from error
    _check_form(array, shape, path)
    return Images(array)


def _labels(counts: Mapping[str, int]) -> Int64[Tensor, "n"]:
    """Return the labels of classes that follow each other."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(list(counts.values())))


def _check_form(array: Any, shape: tuple[int, ...], path: Path) -> None:
    """Raise a `DfalError` unless the array of a file is uint8 of this shape."""
    if array.shape != shape or array.dtype != np.uint8:
        raise DfalError(
            f"{path} holds {array.dtype} of shape {array.shape}, not uint8 of {shape}: delete it"
            " and try again"
        )


def _unreadable(path: Path, error: Exception) -> DfalError:
    return DfalError(f"{path} cannot be read ({first_line(error)}): delete it and try again")


def _remove_downloads(name: str, paths: Iterable[Path]) -> None:
    """Remove the downloads of a data set that is written in our form; files in DFAL_DATA stay."""
    for path in paths:
        if path.parent == folders(name)[-1]:
            with contextlib.suppress(OSError):
                path.unlink()
