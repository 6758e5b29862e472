"""Data sets in folders of images: the first sub-folders are the classes."""

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch

from dfal.data.datasets.card import Dataset, stratified_split
from dfal.data.image_array import Images
from dfal.data.image_folder import Folder
from dfal.data.listing import UNLISTED, count_names
from dfal.data.progress_bar import progress_bar
from dfal.errors import DfalError

SPLIT_SEED = 0
"""Fixes the stratified fifth that is held out where the folder has no train and test."""
TEST = "test"
"""The part that is the test set."""


def load(path: Path) -> Dataset:
    """Load every image below a sub-folder, memory-mapped; images are decoded first if need be.

    Where the sub-folders are parts of a data set (`train`, `test`, `val`), their sub-folders are
    the classes and `test` is the test set; folders next to the parts are named and left out. Where
    there is no such part, a fifth of each class is held out.

    Raises:
        DfalError: for a folder without images or with fewer than two classes, and where images
            cannot be read just now.
    """
    with Folder.open(path) as folder:
        before = int(folder.ready().sum())
        with progress_bar() as progress:
            task = progress.add_task(f"decoding {path}", total=len(folder))
            for done in folder.decode():
                progress.update(task, completed=done)
        ready, aside, paths, images = (
            folder.ready(),
            folder.set_aside(),
            folder.paths,
            folder.images,
        )
        layout, delayed = folder.layout, folder.delayed()
    for folder_path, reason in aside.items():
        if reason.startswith(UNLISTED):
            raise DfalError(
                f"the folder {folder_path} in {path} is not read: {reason}; try again when it"
                " can be"
            )
    if delayed:
        reason = next(iter(delayed.values()))
        raise DfalError(
            f"{len(delayed)} images of {path} cannot be read just now, the first {reason}: try"
            " again when they can"
        )
    if aside and ready.sum() > before:  # once, not by every worker
        first, reason = next(iter(aside.items()))
        sys.stderr.write(
            f"dfal: {len(aside)} files of {path} are left out, the first {first}: {reason}\n"
        )
    if layout.beside and multiprocessing.parent_process() is None:
        sys.stderr.write(
            f"dfal: folders of {path} beside its parts are left out: {count_names(layout.beside)}\n"
        )
    order = [index for index in sorted(range(len(paths)), key=paths.__getitem__) if ready[index]]
    class_of = {index: layout.classes[index] for index in order if index in layout.classes}
    classes = tuple(sorted(set(class_of.values())))
    if len(classes) < 2:
        raise DfalError(
            f"{path} has images of {len(classes)} classes in sub-folders, but two are needed: "
            "put the images of each class into a sub-folder with its name"
        )
    rows = np.array(list(class_of), np.int64)
    labels = torch.tensor([classes.index(name) for name in class_of.values()])
    in_test = torch.tensor([layout.parts.get(index) == TEST for index in class_of])
    if in_test.any():
        pool, test = (~in_test).nonzero().squeeze(1), in_test.nonzero().squeeze(1)
    else:
        pool, test = stratified_split(labels, test=0.2, seed=SPLIT_SEED)
    return Dataset(
        Images(images, rows[pool.numpy()]),
        labels[pool],
        Images(images, rows[test.numpy()]),
        labels[test],
        classes,
        tuple(Path(os.path.abspath(path), paths[row]) for row in rows[torch.cat([pool, test])]),  # noqa: PTH100  links stay
    )
