"""MNIST in full (LeCun, Cortes, Burges), as IDX files."""

from pathlib import Path

from dfal.data.datasets import idx
from dfal.data.datasets.card import Card, Dataset
from dfal.data.datasets.download import fetch, find, folder_with

MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
]
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Checksums of the unpacked files: mirrors compress them differently."""
CLASSES = tuple("0123456789")


def where() -> Path | None:
    """Return the folder that holds all four files."""
    return folder_with("mnist", SHA256)


def load() -> Dataset:
    """Load the data set, which is downloaded first if need be; unpacked files are mapped.

    Raises:
        DfalError: where a download fails, or a file is damaged or another one.
    """
    arrays = [
        idx.read(find("mnist", file) or fetch("mnist", file, MIRRORS, sha), sha)
        for file, sha in SHA256.items()
    ]
    return idx.dataset(arrays, CLASSES)


CARD = Card(
    name="mnist",
    origin="LeCun, Cortes, Burges: the IDX files of the MNIST database",
    licence="CC BY-SA 3.0, as it is commonly given",
    pool=60_000,
    test=10_000,
    image=(1, 28, 28),
    classes=CLASSES,
    split="the official one",
    download=11_594_722,
    get="",
    sums={file: f"SHA-256 {sha256}, unpacked" for file, sha256 in SHA256.items()},
    where=where,
    load=load,
)
