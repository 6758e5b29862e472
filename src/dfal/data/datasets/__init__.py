"""Real images to learn from. One data set a file."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from dfal.data.datasets import (
    fashion_mnist,
    folders,
    mnist,
    mnist_5k,
    npz,
    quick_draw,
    samples,
    shoe_bag,
)
from dfal.data.datasets.card import Card, Dataset
from dfal.errors import DfalError, unknown_name

__all__ = ["CARDS", "PLACES", "Card", "Dataset", "load", "move", "place_of"]

CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        mnist_5k.CARD,
        mnist.CARD,
        fashion_mnist.CARD,
        quick_draw.CARD,
        shoe_bag.CARD,
        *samples.CARDS,
    )
}


PLACES: dict[str, str] = {}
"""Data sets that have moved: the path under which a store knows them, and where they are now.
`move` changes it."""


@functools.lru_cache(maxsize=1)
def load(name: str) -> Dataset:
    """The data set of that name, or the .npz file or the folder of images at that path, or where
    `PLACES` has it.

    Raises:
        DfalError: for an unknown name, a file that cannot be read, a download that fails.
    """
    name = PLACES.get(name, name)
    if not name:
        raise DfalError(
            f"the name of the data set is empty: give one of {', '.join(CARDS)}, a FILE.npz or a"
            " FOLDER"
        )
    if name in CARDS:
        return CARDS[name].load()
    if name.endswith(".npz"):
        return npz.load(Path(name))
    path = Path(name)
    if path.is_dir():
        return folders.load(path)
    if path.is_file():
        raise DfalError(
            f"{path} is neither FILE.npz nor a folder of images: write images and labels with"
            " numpy.savez"
        )
    if path.suffix or path.name != name:
        raise DfalError(
            f"there is no file or folder {path}: name one that is there, or a data set:"
            f" {', '.join(CARDS)}"
        )
    raise unknown_name("data set", name, [*CARDS, "FILE.npz", "FOLDER"])


def move(places: Mapping[str, str]) -> None:
    """Read the data sets of these names from these places, and all others from their own."""
    if places != PLACES:
        PLACES.clear()
        PLACES.update(places)
        load.cache_clear()


def place_of(name: str) -> str | None:
    """Return where the data set of a file or folder is, as an absolute path; None for one of dfal's
    own."""
    return None if name in CARDS else os.path.abspath(PLACES.get(name, name))  # noqa: PTH100  links stay
