"""Quick, Draw! as in the paper: 556,217 drawings of cats, faces, angels and dolphins."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfal.data.datasets.card import Card
from dfal.data.datasets.mapped import ClassFiles

COUNTS = {"cat": 123_202, "face": 161_666, "angel": 149_736, "dolphin": 121_613}
POOL = {name: count * 4 // 5 for name, count in COUNTS.items()}
"""The first 80 % of each class: 444,971 images."""
IMAGE = (1, 28, 28)
LICENCE = "CC BY 4.0"


def open_bitmaps(path: Path) -> contextlib.nullcontext[NDArray[Any]]:
    """Map a file of bitmaps (N, 784)."""
    return contextlib.nullcontext(np.load(path, mmap_mode="r", allow_pickle=False))


FILES = ClassFiles(
    name="quick-draw",
    mirrors=["https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"],
    packed="",
    files={name: f"{name}.npy" for name in COUNTS},
    counts=COUNTS,
    pool=POOL,
    image=IMAGE,
    stored=(28 * 28,),
    open_images=open_bitmaps,
    channels_first=lambda bitmaps: bitmaps,
)

CARD = Card(
    name=FILES.name,
    origin="Google's Quick, Draw! dataset, bitmaps as .npy",
    licence=LICENCE,
    pool=sum(POOL.values()),
    test=sum(FILES.test.values()),
    image=IMAGE,
    classes=tuple(COUNTS),
    split="the last 20 % of each class",
    download=sum(COUNTS.values()) * 28 * 28 + 4 * 80,
    get="",
    sums={},
    where=FILES.where,
    load=FILES.load,
)
