"""Large data sets as two .npy files in the user's cache: written once, block by block, and
memory-mapped from then on."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from dfal.atomic import atomic_write
from dfal.data.datasets.card import Dataset
from dfal.data.datasets.download import folders, writing
from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError, first_line

POOL, TEST = "pool.npy", "test.npy"


def where(name: str) -> Path | None:
    """The folder that holds the written data set."""
    folder = folders(name)[-1]
    return folder if (folder / POOL).is_file() and (folder / TEST).is_file() else None


def load(name: str, image: tuple[int, ...], pool: dict[str, int], test: dict[str, int]) -> Dataset:
    """Map the written data set, in which the classes follow each other.

    Args:
        name: of the data set.
        image: channels, height, width.
        pool, test: class → how many images.

    Raises:
        DfalError: where the files are damaged or hold other counts.
    """
    folder = folders(name)[-1]
    images, labels = zip(
        *(_part(folder / file, image, part) for file, part in ((POOL, pool), (TEST, test))),
        strict=True,
    )
    return Dataset(images[0], labels[0], images[1], labels[1], tuple(pool))


def _part(
    path: Path, image: tuple[int, ...], counts: dict[str, int]
) -> tuple[Images, torch.Tensor]:
    shape = (sum(counts.values()), *image)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # changed bytes make a header fail in many ways
        raise DfalError(
            f"{path} cannot be read ({first_line(error)}): delete it and try again"
        ) from error
    if array.shape != shape or array.dtype != np.uint8:
        raise DfalError(
            f"{path} holds {array.dtype} of shape {array.shape}, not uint8 of {shape}: delete it"
            " and try again"
        )
    return Images(array), torch.arange(len(counts)).repeat_interleave(
        torch.tensor(list(counts.values()))
    )


def write(
    name: str, file: str, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]
) -> None:
    """Write one of the two files; it has its name only when it is whole.

    Raises:
        DfalError: where the disk is full or cannot be written.
    """
    path = folders(name)[-1] / file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path, "free some space, and try again") as part,
        part.open("wb") as out,
        Progress(transient=True) as progress,
    ):
        task = progress.add_task(f"writing {file} of {name}", total=shape[0])
        # Not by a memory map: on a full disk that ends the process instead of raising an error.
        np.lib.format.write_array_header_1_0(
            out, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for block in blocks:
            out.write(np.ascontiguousarray(block).data)
            progress.advance(task, len(block))


def tidy(name: str, files: Iterable[Path]) -> None:
    """Remove what was downloaded when it is written in our form. What lies elsewhere, in DFAL_DATA,
    is left alone."""
    for path in files:
        if path.parent == folders(name)[-1]:
            with contextlib.suppress(OSError):
                path.unlink()


def in_blocks(array: Any, start: int, stop: int) -> Iterator[NDArray[Any]]:
    """Rows of an array, a map or an HDF5 data set, `CHUNK` at a time."""
    for at in range(start, stop, CHUNK):
        yield array[at : min(at + CHUNK, stop)]


def check(array: Any, shape: tuple[int, ...], path: Path) -> None:
    """Raise unless the array of this file is what was published: uint8 of this shape."""
    if array.shape != shape or array.dtype != np.uint8:
        raise DfalError(
            f"{path} holds {array.dtype} of shape {array.shape}, not uint8 of {shape}: delete it"
            " and try again"
        )
