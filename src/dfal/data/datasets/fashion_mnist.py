"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): clothing in MNIST's form, harder to tell apart."""

import hashlib
from pathlib import Path

import numpy as np

from dfal.data.datasets import idx, mnist
from dfal.data.datasets.card import Card, Dataset
from dfal.data.datasets.download import fetch, find, folder_with, record, recorded
from dfal.errors import DfalError

NAME = "fashion-mnist"
MIRRORS = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
]
MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""Of the packed files, as their makers publish them."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files, which it has packed anew."""
DEBIAN_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the files in Debian's package, unpacked."""
SHAPES = ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,))
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def where() -> Path | None:
    """Return the folder that holds all four files."""
    return folder_with(NAME, MD5, DEBIAN)


def load() -> Dataset:
    """Load the data set, which is downloaded first if need be; unpacked files are mapped.

    Raises:
        DfalError: where a download fails, or a file is damaged or another one.
    """
    return idx.dataset(list(map(_array, MD5, SHAPES)), CLASSES)


def _array(file: str, shape: tuple[int, ...]) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Return the array of a file, which is downloaded first if need be, and verified."""
    path = find(NAME, file, DEBIAN) or fetch(NAME, file, MIRRORS, md5=MD5[file])
    raw = idx.content(path)
    sha256 = hashlib.sha256(raw.data).hexdigest()
    if path.suffix == ".gz" and sha256 != DEBIAN_SHA256[file]:
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if md5 != MD5[file]:
            raise DfalError(
                f"{path} is damaged or another file: MD5 begins with {md5[:12]}, not"
                f" {MD5[file][:12]}; delete it"
            )
    array = idx.array(raw, path)
    if array.shape != shape:
        raise DfalError(
            f"{path} holds {array.shape}, but {shape} is expected: delete it and try again"
        )
    if sha256 == mnist.SHA256[file]:
        raise DfalError(
            f"{path} is the file of MNIST, which has the same name: put that of Fashion-MNIST there"
        )
    if (known := recorded(NAME).get(file)) is None:
        record(NAME, file, sha256)
    elif known != sha256:
        raise DfalError(
            f"{path} has changed since its first use: SHA-256 begins with {sha256[:12]}, not"
            f" {known[:12]}; delete it"
        )
    return array


CARD = Card(
    name=NAME,
    origin="Zalando Research: Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747",
    licence="MIT",
    pool=60_000,
    test=10_000,
    image=(1, 28, 28),
    classes=CLASSES,
    split="the official one",
    download=30_878_645,
    get="",
    sums={file: f"MD5 {md5}, packed" for file, md5 in MD5.items()},
    where=where,
    load=load,
)
