"""Weights that trainings of a trial begin with, learnt once from all images and kept in a file."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from dfal.atomic import atomic_write
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.nn import simclr
from dfal.nn.augmentation_choice import usual_augmentation
from dfal.seeding import fork_rng

FORMAT = 1
"""Raised when the same images and network give other weights than before."""
NO_FILE_NAME = re.compile(r"[^\w.-]+")
"""What of a network's name does not go into a file's."""

_LAST: list[tuple[str, dict[str, Tensor]]] = []
"""The last weights, and what they follow from."""


def body_weights(
    data: Dataset, name: str, make: Callable[[], nn.Module], seed: int, *, augment: str, device: str
) -> dict[str, Tensor]:
    """Return the weights before a network's features that SimCLR learns from a data set's pool.

    They are computed once and read from the user's cache afterwards, so that a resumed trial has
    the same. With an augmentation of the user's own, whose code may change, they are computed anew.

    Args:
        data: of which only the pixels of the pool are used.
        name: of the network.
        make: returns a new one, whose random weights the seed decides.
        seed: of the training.
        augment: that of the trial's training; where that is none or not chosen yet, the usual one.
        device: where to train.

    Raises:
        DfalError: for data that are no images, as `simclr.pretrain` does, and if the file cannot be
            written.
    """
    shape = data.images.shape
    if len(shape) != 3:
        raise DfalError(
            f"simclr changes images, but the data have the shape {shape}: start from random weights"
        )
    if augment in {"none", "auto"}:
        augment = usual_augmentation(shape[0])
    with fork_rng(seed):
        network = make()
    settings = (simclr.STEPS, simclr.BATCH, simclr.LEARNING_RATE, simclr.TEMPERATURE)
    known = [FORMAT, data.fingerprint, shape, repr(network), seed, augment, device, *settings]
    weights = hashlib.sha256(save(network.state_dict())).hexdigest()
    key = hashlib.sha256(json.dumps([*known, weights]).encode()).hexdigest()[:16]
    if not (_LAST and _LAST[0][0] == key):
        path = _folder() / f"simclr-{re.sub(NO_FILE_NAME, '_', name)}-{key}.safetensors"
        found = _read(path) if ":" not in augment else None
        if found is None:
            found = simclr.pretrain(
                make, data.images, seed, augment=augment, device=device, steps=simclr.STEPS
            )
            if ":" not in augment:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path, "set XDG_CACHE_HOME to a folder for it") as partial:
                    save_file(found, partial)
        _LAST[:] = [(key, found)]
    return _LAST[0][1]


def _folder() -> Path:
    return Path(platformdirs.user_cache_dir("dfal")) / "starts"


def _read(path: Path) -> dict[str, Tensor] | None:
    """Return the weights in a file; None where there is none that can be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None
