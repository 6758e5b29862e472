"""Quick, Draw! as in the paper: 556,217 drawings of cats, faces, angels and dolphins as bitmaps of
28 × 28."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfal.data.datasets import mapped
from dfal.data.datasets.card import Card, Dataset
from dfal.data.datasets.download import fetch, find
from dfal.errors import DfalError, first_line

NAME = "quick-draw"
MIRRORS = ["https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"]
COUNTS = {"cat": 123_202, "face": 161_666, "angel": 149_736, "dolphin": 121_613}
IMAGE = (1, 28, 28)


def pool() -> dict[str, int]:
    """The first 80 % of each class are asked about: 444,971 in all."""
    return {name: count * 4 // 5 for name, count in COUNTS.items()}


def test() -> dict[str, int]:
    """The others are measured on: 111,246 in all."""
    return {
        name: count - first
        for (name, count), first in zip(COUNTS.items(), pool().values(), strict=True)
    }


def where() -> Path | None:
    """The folder that holds the data set, as we write it or as it comes."""
    found = [find(NAME, f"{name}.npy") for name in COUNTS]
    return mapped.where(NAME) or (found[0].parent if found[0] and all(found) else None)


def load() -> Dataset:
    """The data set, memory-mapped; downloaded and written in our form first where it must be."""
    if mapped.where(NAME) is None:
        files = {name: find(NAME, f"{name}.npy") or _fetch(name) for name in COUNTS}
        for file, part, first in ((mapped.POOL, pool(), True), (mapped.TEST, test(), False)):
            mapped.write(NAME, file, (sum(part.values()), *IMAGE), _blocks(files, first))
        mapped.tidy(NAME, files.values())
    return mapped.load(NAME, IMAGE, pool(), test())


def _fetch(name: str) -> Path:
    return fetch(NAME, f"{name}.npy", MIRRORS, packed="")


def _blocks(files: dict[str, Path], first: bool) -> Iterator[NDArray[np.uint8]]:
    for name, path in files.items():
        try:
            bitmaps = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # changed bytes make a header fail in many ways
            raise DfalError(
                f"{path} cannot be read ({first_line(error)}): delete it and try again"
            ) from error
        mapped.check(bitmaps, (COUNTS[name], 28 * 28), path)
        border = pool()[name]
        yield from mapped.in_blocks(
            bitmaps, 0 if first else border, border if first else COUNTS[name]
        )


CARD = Card(
    name=NAME,
    about="drawings made in 20 seconds: cat, face, angel, dolphin",
    origin="Google's Quick, Draw! dataset, bitmaps as .npy",
    licence="CC BY 4.0",
    pool=444_971,
    test=111_246,
    image=IMAGE,
    classes=tuple(COUNTS),
    split="the last 20 % of each class",
    download=sum(COUNTS.values()) * 28 * 28 + 4 * 80,
    get="",
    sums={},
    where=where,
    load=load,
)
