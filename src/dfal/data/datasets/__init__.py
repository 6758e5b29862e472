"""Data sets by name: each is one file of this package and one line in `DATASETS`."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfal.errors import DfalError, unknown_name
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from dfal.data.datasets.card import Card, Dataset

__all__ = ["DATASETS", "PLACES", "Card", "Dataset", "load", "move", "place_of"]

DATASETS: "Registry[Card]" = Registry(
    "data set",
    {
        "mnist-5k": Entry(
            "dfal.data.datasets.mnist_5k:CARD",
            "5,000 handwritten digits of MNIST, 500 of each class",
        ),
        "mnist": Entry("dfal.data.datasets.mnist:CARD", "handwritten digits, the whole set"),
        "fashion-mnist": Entry(
            "dfal.data.datasets.fashion_mnist:CARD", "articles of clothing in MNIST's form"
        ),
        "quick-draw": Entry(
            "dfal.data.datasets.quick_draw:CARD",
            "drawings made in 20 seconds: cat, face, angel, dolphin",
        ),
        "shoe-bag": Entry(
            "dfal.data.datasets.shoe_bag:CARD", "photographs of shoes and of handbags on white"
        ),
        "quick-draw-sample": Entry(
            "dfal.data.datasets.samples:QUICK_DRAW_SAMPLE",
            "a sample of the paper's four classes of Quick, Draw!",
        ),
        "quick-draw-4": Entry(
            "dfal.data.datasets.samples:QUICK_DRAW_4",
            "fish, cat, face, bird of Quick, Draw!: thousands of each",
        ),
        "shoe-bag-sample": Entry(
            "dfal.data.datasets.samples:SHOE_BAG_SAMPLE",
            "shoes and bags on white, not the paper's pictures",
        ),
    },
)
"""Name of a data set → its card, imported when it is asked for."""

FILE_ENDINGS = (".npz", ".npy", ".csv", ".parquet", ".tar", ".zip")
"""Of files that hold a data set."""
PLACES: dict[str, str] = {}
"""Data sets that have moved: the path under which a store knows them → where they are now.
`move` changes it."""

LOADED: set[str] = set()
"""Names of own images that this process has loaded, because somebody asked for them."""


def __getattr__(name: str) -> Any:
    """Import the types of data sets when they are first used: they bring torch along."""
    if name not in {"Card", "Dataset"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dfal.data.datasets import card

    return getattr(card, name)


@functools.lru_cache(maxsize=1)
def load(name: str) -> "Dataset":
    """Load a data set by its name, or from files, addresses or code of the user's own.

    Args:
        name: a name of `DATASETS`, or what `sources.SOURCES` lists. A path in `PLACES` is read
            from where that says.

    Raises:
        DfalError: for an unknown name, a file that cannot be read, a download that fails.
    """
    name = PLACES.get(name, name)
    if not name:
        raise DfalError(
            f"the name of the data set is empty: give one of {', '.join(DATASETS)}, a FILE.npz or"
            " a FOLDER"
        )
    if name in DATASETS:
        return DATASETS[name].load()
    from dfal.data import sources

    path = Path(name)
    if name.endswith(".npz"):
        from dfal.data.datasets import npz

        return npz.load(path)
    if path.is_dir():
        from dfal.data.datasets import folders

        return folders.load(path)
    if sources.is_own(name):
        loaded = sources.load(name)
        LOADED.add(name)
        return loaded
    if path.is_file():
        raise DfalError(
            f"{path} is no file that dfal reads images from: name a folder, or a file that ends in"
            f" {', '.join(FILE_ENDINGS)}"
        )
    if path.suffix or path.name != name:
        raise DfalError(
            f"there is no file or folder {path}: name one that is there, or a data set:"
            f" {', '.join(DATASETS)}"
        )
    raise unknown_name(
        "data set", name, [*DATASETS, "FILE.npz", "FOLDER", "package.module:function"]
    )


def move(places: Mapping[str, str]) -> None:
    """Read the data sets of these names from these places, and all others from their own."""
    if places != PLACES:
        PLACES.clear()
        PLACES.update(places)
        load.cache_clear()


def place_of(name: str) -> str | None:
    """Return the absolute path of a data set in a file or folder; None for any other."""
    from dfal.data.sources.addresses import is_path

    if name in DATASETS or not is_path(name):
        return None
    return os.path.abspath(PLACES.get(name, name))  # noqa: PTH100  links stay
