"""Smaller real samples, which lie in DFAL_DATA where there are any. Each has a name of its own:
none stands for a full set."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from dfal.data.datasets import npz
from dfal.data.datasets.card import Card, Dataset
from dfal.data.image_array import Images
from dfal.errors import DfalError

SHUFFLE_SEED = 0
"""Fixes the order: the files have one class after the other."""


def _where(name: str) -> Path | None:
    named = os.environ.get("DFAL_DATA")
    path = Path(named or "") / f"{name}.npz"
    return path if named and path.is_file() else None


def _load(name: str) -> Dataset:
    path = _where(name)
    if path is None:
        raise DfalError(f"{name} is not here: set DFAL_DATA to a folder that holds {name}.npz")
    data = npz.load(path)
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(SHUFFLE_SEED))
    return replace(data, images=Images(data.images, order.numpy()), labels=data.labels[order])


def _card(  # noqa: PLR0917
    name: str,
    about: str,
    origin: str,
    licence: str,
    counts: dict[str, int],
    image: tuple[int, int, int],
) -> Card:
    test = sum(round(0.2 * count) for count in counts.values())
    return Card(
        name=name,
        about=about,
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
        where=lambda: _where(name),
        load=lambda: _load(name),
    )


CARDS = (
    _card(
        "quick-draw-sample",
        "a sample of the paper's four classes of Quick, Draw!",
        "Google's Quick, Draw! dataset: bitmaps, or strokes drawn as the bitmaps are",
        "CC BY 4.0",
        {"dolphin": 325, "cat": 4_287, "face": 3_540, "angel": 1_297},
        (1, 28, 28),
    ),
    _card(
        "quick-draw-4",
        "fish, cat, face, bird of Quick, Draw!: thousands of each",
        "Google's Quick, Draw! dataset: bitmaps, or strokes drawn as the bitmaps are",
        "CC BY 4.0",
        {"fish": 3_196, "cat": 4_287, "face": 3_540, "bird": 4_292},
        (1, 28, 28),
    ),
    _card(
        "shoe-bag-sample",
        "shoes and bags on white, not the paper's pictures",
        "Kaggle's Fashion Product Images (Small)",
        "quoted as MIT, unverified: research use, publish none of the pictures",
        {"shoe": 7_316, "bag": 2_998},
        (3, 64, 64),
    ),
)
