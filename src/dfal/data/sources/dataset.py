"""Data sets for studies, made of images of one's own."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from jaxtyping import Int64, UInt8

from dfal.data.computed_rows import map_rows
from dfal.data.datasets.card import Dataset, Originals, stratified_split
from dfal.data.image_array import Images
from dfal.data.progress_bar import progress_bar
from dfal.data.sources.arrays import ArraySource
from dfal.data.sources.base import Source
from dfal.data.sources.classes import numbered
from dfal.data.sources.decoder import Decoder
from dfal.data.sources.opening import open_source
from dfal.data.sources.reading import collect, decoded_blocks
from dfal.errors import DfalError

SPLIT_SEED = 0
"""Fixes the stratified fifth that is held out where the source has no test set."""
FORMAT = 1
"""Raised when the same images give other rows than before."""


def load(name: str) -> Dataset:
    """Load a data set from anything that `SOURCES` lists.

    Images are decoded once into the user's cache, where the source tells whether it has changed,
    and are mapped from then on. A fifth of each class is the test set, where the source has none.

    Raises:
        DfalError: for a source without labels or with one class, and one that cannot be read.
    """
    source = open_source(name)
    if isinstance(source, ArraySource):
        images, found, decoder = source.array, source.labels, None
    else:
        decoder = Decoder(source, like_folders=True)
        images, from_items = _images(source, decoder)
        found = from_items if source.labels is None else source.labels
    if not found:
        raise DfalError(
            f"{name} has no labels, which a study needs to answer its queries: add them as"
            " docs/data.md shows"
        )
    labels, classes = numbered(found, source.classes, name)
    if len(classes) < 2:
        raise DfalError(
            f"{name} has images of one class only, but two are needed: add images of another"
        )
    if source.in_test is None:
        pool, test = stratified_split(labels, test=0.2, seed=SPLIT_SEED)
    else:
        in_test = torch.tensor(list(source.in_test))
        pool, test = (~in_test).nonzero().squeeze(1), in_test.nonzero().squeeze(1)
        if not len(pool):
            raise DfalError(f"{name} has a test set only: add images to train on")
    order = torch.cat([pool, test]).numpy()
    return Dataset(
        Images(images, pool.numpy()),
        labels[pool],
        Images(images, test.numpy()),
        labels[test],
        classes,
        originals=_originals(source, decoder, order) if decoder and decoder.from_files else None,
    )


def _originals(source: Source, decoder: Decoder, order: Int64[np.ndarray, "n"]) -> Originals:
    def read(
        indices: Int64[np.ndarray, "n"], shape: tuple[int, int, int]
    ) -> UInt8[np.ndarray, "n c h w"]:
        return np.stack([decoder.originals(int(order[index]), shape) for index in indices])

    key = source.key() if source.key else ""
    return Originals(hashlib.sha256(key.encode()).hexdigest()[:16], read)


def _images(source: Source, decoder: Decoder) -> tuple[Images, list[Any] | None]:
    """Return the images in a file of the cache, or in memory where the source has no key."""
    if source.key is None or source.labels is None:
        return collect(source, decoder)
    about = json.dumps([FORMAT, source.key(), decoder.shape, decoder.dtype.str])
    digest = hashlib.sha256(about.encode()).hexdigest()[:16]
    label = re.sub(r"[^\w.-]+", "_", source.name)[-40:]
    path = Path(platformdirs.user_cache_dir("dfal")) / "own" / f"{label}-{digest}.npy"
    compute = partial(_with_progress, source, decoder)
    return Images(map_rows(path, (source.count, *decoder.shape), decoder.dtype.type, compute)), None


def _with_progress(source: Source, decoder: Decoder, start: int) -> Any:
    with progress_bar() as progress:
        task = progress.add_task(f"decoding {source.name}", total=source.count, completed=start)
        for block in decoded_blocks(source, decoder, start=start):
            yield block
            progress.advance(task, len(block))
