"""Shoe-Bag as in the paper: photographs of 50,025 shoes and 138,767 handbags on white."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfal.data.datasets.card import Card, Dataset
from dfal.data.datasets.mapped import ClassFiles
from dfal.errors import DfalError

COUNTS = {"shoe": 50_025, "bag": 138_767}
TEST_IMAGES = 2_000
"""The last so many of each class are the test set."""
IMAGE = (3, 64, 64)


def hdf5() -> Any:
    """Import what reads HDF5.

    Raises:
        DfalError: where it is not installed.
    """
    try:
        import h5py  # an extra
    except ImportError:
        raise DfalError(
            "shoe-bag comes as HDF5, which needs h5py: pip install 'dfal[hdf5]'"
        ) from None
    return h5py


@contextlib.contextmanager
def open_photographs(path: Path) -> Iterator[Any]:
    """Open the photographs `imgs` (N, height, width, channels) of a file."""
    with hdf5().File(path, "r") as file:
        yield file["imgs"]


FILES = ClassFiles(
    name="shoe-bag",
    mirrors=[
        "http://efrosgans.eecs.berkeley.edu/iGAN/datasets",
        "https://people.eecs.berkeley.edu/~junyanz/projects/gvm/datasets",
    ],
    packed=".zip",
    files={"shoe": "shoes_64.hdf5", "bag": "handbag_64.hdf5"},
    counts=COUNTS,
    pool={name: count - TEST_IMAGES for name, count in COUNTS.items()},
    image=IMAGE,
    stored=(64, 64, 3),
    open_images=open_photographs,
    channels_first=lambda photographs: photographs.transpose(0, 3, 1, 2),
)


def load() -> Dataset:
    """Load the data set, memory-mapped; it is downloaded and written in our form first if need be.

    Raises:
        DfalError: where h5py is needed and not installed, before a gigabyte is downloaded.
    """
    if FILES.written() is None:
        hdf5()
    return FILES.load()


CARD = Card(
    name=FILES.name,
    origin="the iGAN project, UC Berkeley: UT Zappos50K (Yu, Grauman) and handbags from Amazon",
    licence="none given: research use",
    pool=sum(FILES.pool.values()),
    test=sum(FILES.test.values()),
    image=IMAGE,
    classes=tuple(COUNTS),
    split="the last 2,000 of each class",
    download=1_034_000_000,
    get="",
    sums={},
    where=FILES.where,
    load=load,
)
