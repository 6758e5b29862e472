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


def prepare(name: str, seed: int, most: int, work: Path) -> Photographs:
    """Return the folders of a data set, made where they are not there yet.

    Args:
        name: of the data set, or its folder.
        seed: of the choice of test images, where the data set has no part for testing; then each
        seed has folders of its own.
        most: test images at most.
        work: where the folders are.
    """
    source = _source(name, work)
    split = (source / "train").is_dir()
    made = (work / "images" / (source.name if split else f"{source.name}-{seed}")).resolve()
    if not (made / "truth.json").exists():
        shutil.rmtree(made, ignore_errors=True)
        rng = np.random.default_rng(0 if split else seed)
        if split:
            pool, test = (_files(source / part) for part in ("train", "test"))
            pool = [pool[i] for i in rng.permutation(len(pool))]
            test = [test[i] for i in rng.permutation(len(test))]
        else:
            files = _files(source)
            files = [files[i] for i in rng.permutation(len(files))]
            first = -(-5 * len(files) // 7)
            pool, test = files[:first], files[first:]
        truth = {
            part: _copied(files, made / part)
            for part, files in (("pool", pool), ("test", test[:most]))
        }
        (made / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    truth = json.loads((made / "truth.json").read_text(encoding="utf-8"))
    classes = sorted(set(truth["pool"].values()))
    return Photographs(made / "pool", made / "test", classes, truth["pool"], truth["test"])


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
            array = images.array[index]
            Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(path)
    part.rename(folder)
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def _copied(files: list[Path], folder: Path) -> dict[str, str]:
    """Copy files under names that tell nothing, and return the class of each."""
    folder.mkdir(parents=True)
    truth = {}
    for index, file in enumerate(files):
        name = f"{index:05}{file.suffix}"
        shutil.copyfile(file, folder / name)
        truth[name] = file.parent.name
    return truth
