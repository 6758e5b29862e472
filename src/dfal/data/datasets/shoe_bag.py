"""Shoe-Bag as in the paper: photographs of 50,025 shoes and 138,767 handbags on white, 64 × 64 in
colour."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfal.data.datasets import mapped
from dfal.data.datasets.card import Card, Dataset
from dfal.data.datasets.download import fetch, find
from dfal.errors import DfalError

NAME = "shoe-bag"
MIRRORS = [
    "http://efrosgans.eecs.berkeley.edu/iGAN/datasets",
    "https://people.eecs.berkeley.edu/~junyanz/projects/gvm/datasets",
]
FILES = {"shoe": "shoes_64.hdf5", "bag": "handbag_64.hdf5"}
COUNTS = {"shoe": 50_025, "bag": 138_767}
HELD_OUT = 2_000
"""The last so many of each class are the test set."""
IMAGE = (3, 64, 64)


def pool() -> dict[str, int]:
    """All but the last of each class are asked about: 184,792."""
    return {name: count - HELD_OUT for name, count in COUNTS.items()}


def test() -> dict[str, int]:
    """The last 2,000 of each class are measured on."""
    return dict.fromkeys(COUNTS, HELD_OUT)


def where() -> Path | None:
    """The folder that holds the data set, as we write it or as it comes."""
    found = [find(NAME, file) for file in FILES.values()]
    return mapped.where(NAME) or (found[0].parent if found[0] and all(found) else None)


def load() -> Dataset:
    """The data set, memory-mapped; downloaded and written in our form first where it must be."""
    if mapped.where(NAME) is None:
        _hdf5()  # before a gigabyte is downloaded
        files = {
            name: find(NAME, file) or fetch(NAME, file, MIRRORS, packed=".zip")
            for name, file in FILES.items()
        }
        for file, part, first in ((mapped.POOL, pool(), True), (mapped.TEST, test(), False)):
            mapped.write(NAME, file, (sum(part.values()), *IMAGE), _blocks(files, first))
        mapped.tidy(NAME, files.values())
    return mapped.load(NAME, IMAGE, pool(), test())


def _hdf5() -> Any:
    try:
        import h5py  # an extra
    except ImportError:
        raise DfalError(
            "shoe-bag comes as HDF5, which needs h5py: pip install 'dfal[hdf5]'"
        ) from None
    return h5py


def _blocks(files: dict[str, Path], first: bool) -> Iterator[NDArray[np.uint8]]:
    """Channels first, block by block: the files have N × height × width × channels as `imgs`."""
    for name, path in files.items():
        try:
            with _hdf5().File(path, "r") as file:
                images = file["imgs"]
                channels, height, width = IMAGE
                shape = (COUNTS[name], height, width, channels)
                mapped.check(images, shape, path)
                border = pool()[name]
                for block in mapped.in_blocks(
                    images, 0 if first else border, border if first else COUNTS[name]
                ):
                    yield block.transpose(0, 3, 1, 2)
        except (OSError, KeyError, AttributeError) as error:
            raise DfalError(f"{path} cannot be read ({error}): delete it and try again") from None


CARD = Card(
    name=NAME,
    about="photographs of shoes and of handbags on white",
    origin="the iGAN project, UC Berkeley: UT Zappos50K (Yu, Grauman) and handbags from Amazon",
    licence="none given: research use",
    pool=184_792,
    test=4_000,
    image=IMAGE,
    classes=tuple(COUNTS),
    split="the last 2,000 of each class",
    download=1_034_000_000,
    get="",
    sums={},
    where=where,
    load=load,
)
