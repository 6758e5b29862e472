"""Folders of images for `photographs.py`: anonymous names, and test images apart."""

import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dfal.data.datasets import load

ARCHIVES = ("cat-dog", "cifar-10-sample")
"""Data sets that are archives in $DFAL_DATA."""


@dataclass(frozen=True)
class Photographs:
    """Images to label, and images to test with.

    Attributes:
        folder: of the images to label, without sub-folders.
        test: folder of the test images.
        classes: names.
        truth: file name → class, of the images to label.
        test_truth: the same of the test images.
    """

    folder: Path
    test: Path
    classes: list[str]
    truth: dict[str, str]
    test_truth: dict[str, str]


def prepare(
    name: str, seed: int, most: int, work: Path, slot: int = 0, pool: int | None = None
) -> Photographs:
    """Return the folders of a data set, filled anew where they have another split.

    An image has the same name and time in each split: what is kept of it counts for all of them.

    Args:
        name: of the data set, or its folder.
        seed: of the choice of test images, where the data set has no part for testing.
        most: test images at most.
        work: where the folders are.
        slot: number of the folders, where several are used at a time.
        pool: images to label at most.
    """
    source = _source(name, work)
    has_test = (source / "train").is_dir()
    folder = (work / "images" / f"{source.name}-{slot}").resolve()
    note = folder / "made.json"
    wanted = {"split": 0 if has_test else seed, "most": most, "pool": pool}
    made = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    if {key: made.get(key) for key in wanted} != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        files, test = _split(source, seed, has_test=has_test)
        made = {
            **wanted,
            "truth": _filled(dict(list(files.items())[:pool]), folder / "pool"),
            "test_truth": _filled(dict(list(test.items())[:most]), folder / "test"),
        }
        note.write_text(json.dumps(made), encoding="utf-8")
    classes = sorted(set(made["truth"].values()))
    return Photographs(folder / "pool", folder / "test", classes, made["truth"], made["test_truth"])


def _split(source: Path, seed: int, *, has_test: bool) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return anonymous name → file, of the images to label and of the test images."""
    if has_test:
        return _named(source / "train"), _named(source / "test")
    names = {file: name for name, file in _named(source).items()}
    files = sorted(names)
    order = [files[i] for i in np.random.default_rng(seed).permutation(len(files))]
    first = -(-5 * len(files) // 7)
    pool = sorted(order[:first], key=names.__getitem__)
    return {names[file]: file for file in pool}, {names[file]: file for file in order[first:]}


def _named(folder: Path) -> dict[str, Path]:
    """Return the images of a folder in a random order, under names that tell nothing."""
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    order = np.random.default_rng(0).permutation(len(files)).tolist()
    return {f"{number:05}{files[i].suffix}": files[i] for number, i in enumerate(order)}


def _filled(files: dict[str, Path], folder: Path) -> dict[str, str]:
    """Copy files under other names, and return the class of each."""
    folder.mkdir(parents=True)
    for name, file in files.items():
        shutil.copy2(file, folder / name)
    return {name: file.parent.name for name, file in files.items()}


def _source(name: str, work: Path) -> Path:
    """Return a folder with a folder for each class, perhaps in `train` and `test`."""
    if Path(name).is_dir():
        return Path(name)
    sources = work / "sources"
    folder = sources / name
    if folder.is_dir():
        return folder
    sources.mkdir(parents=True, exist_ok=True)
    if name in ARCHIVES:
        with tarfile.open(Path(os.environ["DFAL_DATA"]) / f"{name}.tar.gz") as archive:
            archive.extractall(sources, filter="data")
        return folder
    data = load(name)
    part = sources / f".{name}"
    shutil.rmtree(part, ignore_errors=True)
    for images, labels, folder_name in (
        (data.images, data.labels, "train"),
        (data.test_images, data.test_labels, "test"),
    ):
        for index, label in enumerate(labels.tolist()):
            path = part / folder_name / data.classes[label] / f"{index:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = images.raw(np.array([index]))[0]
            Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(path)
    part.rename(folder)
    return folder
