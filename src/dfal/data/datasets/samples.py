"""Smaller real samples, each under a name of its own, so that none stands for a full set."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from dfal.data.datasets import npz, quick_draw, shoe_bag
from dfal.data.datasets.card import Card, Dataset
from dfal.data.image_array import Images
from dfal.errors import DfalError

SHUFFLE_SEED = 0
"""Fixes the order: the files have one class after the other."""
DRAWINGS = "Google's Quick, Draw! dataset: bitmaps, or strokes drawn as the bitmaps are"
"""Origin of both samples of Quick, Draw!."""


def where(name: str) -> Path | None:
    """Return the file of a sample in DFAL_DATA, if it is there."""
    folder = os.environ.get("DFAL_DATA")
    path = Path(folder or "") / f"{name}.npz"
    return path if folder and path.is_file() else None


def load(name: str) -> Dataset:
    """Load a sample, shuffled, with a fifth of each class held out for testing.

    Raises:
        DfalError: where it is not in DFAL_DATA or cannot be read.
    """
    path = where(name)
    if path is None:
        raise DfalError(f"{name} is not here: set DFAL_DATA to a folder that holds {name}.npz")
    data = npz.load(path)
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(SHUFFLE_SEED))
    return replace(data, images=Images(data.images, order.numpy()), labels=data.labels[order])


def sample_card(
    name: str, origin: str, licence: str, counts: dict[str, int], image: tuple[int, int, int]
) -> Card:
    """Return the card of a sample.

    Args:
        name: of the data set and, before `.npz`, of its file.
        origin: as in `Card`.
        licence: as in `Card`.
        counts: class → number of images, of pool and test set together.
        image: channels, height, width.
    """
    test = sum(round(0.2 * count) for count in counts.values())
    return Card(
        name=name,
        origin=origin,
        licence=licence,
        pool=sum(counts.values()) - test,
        test=test,
        image=image,
        classes=tuple(counts),
        split="a fifth of each class, drawn with a fixed seed",
        download=None,
        get=f"set DFAL_DATA to a folder that holds {name}.npz",
        sums={},
        where=partial(where, name),
        load=partial(load, name),
    )


QUICK_DRAW_SAMPLE = sample_card(
    "quick-draw-sample",
    DRAWINGS,
    quick_draw.LICENCE,
    {"dolphin": 325, "cat": 4_287, "face": 3_540, "angel": 1_297},
    quick_draw.IMAGE,
)
QUICK_DRAW_4 = sample_card(
    "quick-draw-4",
    DRAWINGS,
    quick_draw.LICENCE,
    {"fish": 3_196, "cat": 4_287, "face": 3_540, "bird": 4_292},
    quick_draw.IMAGE,
)
SHOE_BAG_SAMPLE = sample_card(
    "shoe-bag-sample",
    "Kaggle's Fashion Product Images (Small)",
    "quoted as MIT, unverified: research use, publish none of the pictures",
    {"shoe": 7_316, "bag": 2_998},
    shoe_bag.IMAGE,
)
