"""Real images to learn from. One data set a file."""

import functools
from pathlib import Path

from dfal.datasets import fashion_mnist, folders, mnist, mnist_5k, npz, quick_draw, samples, shoe_bag
from dfal.datasets.card import Card, Dataset
from dfal.types import DfalError, unknown

__all__ = ["CARDS", "Card", "Dataset", "load"]

CARDS: dict[str, Card] = {
    card.name: card for card in (mnist_5k.CARD, mnist.CARD, fashion_mnist.CARD, quick_draw.CARD, shoe_bag.CARD, *samples.CARDS)
}


@functools.lru_cache(maxsize=1)
def load(name: str) -> Dataset:
    """The data set of that name, or the .npz file or the folder of images at that path.

    Raises:
        DfalError: for an unknown name, a file that cannot be read, a download that fails.
    """
    if name in CARDS:
        return CARDS[name].load()
    if name.endswith(".npz"):
        return npz.load(Path(name))
    path = Path(name)
    if path.is_dir():
        return folders.load(path)
    if path.is_file():
        raise DfalError(f"{path} is neither FILE.npz nor a folder of images: write images and labels with numpy.savez")
    if path.suffix or path.name != name:
        raise DfalError(f"there is no file or folder {path}: name one that is there, or a data set: {', '.join(CARDS)}")
    raise unknown("data set", name, [*CARDS, "FILE.npz", "FOLDER"])
