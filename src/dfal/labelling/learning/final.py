"""Train a final model on all that is known in a store, and measure it on the hold-out.

The store is only read, so that people may label meanwhile. `final_process.start` does the same in a
process of its own, for a page.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from dfal import models
from dfal.backbones.base import Backbone
from dfal.backbones.registry import is_registered
from dfal.errors import DfalError
from dfal.labelling.learning.final_choice import choose
from dfal.labelling.learning.final_data import Known, Proceed, decode, read_known
from dfal.labelling.learning.final_learners import (
    BackboneLearner,
    ConsistencyLearner,
    FinalLearner,
    ScratchLearner,
)
from dfal.labelling.learning.final_settings import FinalSettings
from dfal.labelling.learning.learners import open_backbones
from dfal.labelling.settings import AUTO, EVERY_IMAGE, NO_BACKBONE, PIXELS, Settings
from dfal.labelling.store.session import Session
from dfal.models.weights import KEY
from dfal.nn import NETWORKS
from dfal.nn.custom_fit import CustomFit, load_fit
from dfal.nn.inference import predict
from dfal.nn.training import check_device
from dfal.plugins import unnamed_code
from dfal.stats.agreement import wilson
from dfal.storage.paths import beside

_ON_PIXELS = frozenset({AUTO, NO_BACKBONE})
"""Backbones that need the session's network."""
MEASURE_BATCH = 64
"""Hold-out images in memory at a time."""


@dataclass(frozen=True)
class Measured:
    """A fraction of images that is right, with its 95 % Wilson interval.

    Attributes:
        right, of: images.
        value, low, high: the fraction, and the ends of the interval.
    """

    right: int
    of: int
    value: float
    low: float
    high: float

    @classmethod
    def count(cls, right: int, of: int) -> "Measured":
        """Return the fraction of a count, which is not of 0."""
        return cls(right, of, right / of, *wilson(right, of))


@dataclass(frozen=True)
class Report:
    """What a final model is, and how good it is.

    Attributes:
        path: of the model.
        network: what it is, in words.
        why: how it was chosen, one sentence each.
        labels: images that it was trained on.
        annotations: those of them that people labelled.
        unlabelled: images without a label that it learnt from, too.
        augmentation: used in training.
        validation: way of training, in words → accuracy on labels that it was not trained on; these
            chose among the ways.
        accuracy: on the hold-out, which chose nothing; None without one.
        classes: name of a class → its accuracy on the hold-out.
        notes: what the user must know of it, one sentence each.
        seconds: that it took.
    """

    path: Path
    network: str
    why: tuple[str, ...]
    labels: int
    annotations: int
    unlabelled: int
    augmentation: str
    validation: dict[str, Measured]
    accuracy: Measured | None
    classes: dict[str, Measured]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"path": str(self.path)}


def ignore(activity: str, done: int, total: int) -> None:
    """Say nothing of what is done."""


def final_model_path(store: Path) -> Path:
    """Return the file next to a store that its final model is saved in."""
    return beside(store, ".final.safetensors")


def train_final(
    store: Path,
    out: Path | None = None,
    settings: FinalSettings | None = None,
    proceed: Proceed = ignore,
) -> Report:
    """Train a final model on every label of a store but the hold-out, and save it.

    The store is only read. The model's file is there whole, or as it was before.

    Args:
        store: of `dfal label`; a page may be open over it.
        out: the file to write; by default `final_model_path`.
        settings: how it is trained.
        proceed: is told what is done now, and how much of it; what it raises ends the training.

    Raises:
        DfalError: for no store, labels of fewer than two classes, images that are not there, a
            backbone that cannot be loaded, a file that cannot be written.
    """
    began = time.monotonic()
    settings = settings or FinalSettings()
    out = out or final_model_path(store)
    _check_out(out)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    with Session.open(store, write=False) as session:
        known = read_known(session, store)
        stored, in_use = session.settings, session.state.backbone
    name = _allowed_backbone(store, settings, in_use)
    has_networks = _compares_networks(name, settings, stored)
    network_name = _allowed_network(store, settings, stored) if has_networks else ""
    own_fit = _allowed_fit(store, settings, stored, name)
    opened, notes = _open_backbones(
        name, _image(stored, settings), settings.size, device, has_networks=has_networks
    )
    learners: list[FinalLearner] = []
    labelled = np.concatenate([known.train, known.hold_out])
    gone: dict[int, str] = {}
    for backbone in opened:
        image = _image(stored, settings) if backbone is None else backbone.image
        decoded = decode(known, labelled, image, proceed)
        gone |= decoded.gone
        known = known.without({*decoded.gone}) if decoded.gone else known
        if backbone is not None:
            learners.append(
                BackboneLearner(backbone, known, decoded, settings.epochs, settings.seed, proceed)
            )
            continue
        scratch = ScratchLearner(
            network_name, image, known, decoded, stored.training, settings.seed, device, own_fit
        )
        learners.append(scratch)
        if not settings.labels_only and own_fit is None and network_name in NETWORKS:
            learners.append(ConsistencyLearner.beside(scratch, settings.augment, proceed))
    chosen = choose(learners, known, settings, proceed)
    network = chosen.network.to("cpu")
    accuracy, by_class = _measure(network, chosen.learner, known, proceed)
    card = models.ModelCard(
        classes=known.classes,
        image=chosen.learner.image,
        network=chosen.learner.network_name,
        annotations=known.annotations,
        accuracy=accuracy.value if accuracy else None,
        interval=(accuracy.low, accuracy.high) if accuracy else None,
        held_out=accuracy.of if accuracy else 0,
        about=f"trained by dfal train on {len(known.train):,} labels: {chosen.way}",
        temperature=chosen.temperature,
    )
    models.save(network, card, out)
    return Report(
        path=out,
        network=chosen.way,
        why=chosen.why,
        labels=len(known.train),
        annotations=known.annotations,
        unlabelled=chosen.learner.unlabelled,
        augmentation=chosen.augmentation,
        validation={
            each.way: Measured.count(int(each.is_right.sum()), len(each.labels))
            for each in chosen.validations
        },
        accuracy=accuracy,
        classes=by_class,
        notes=(*notes, *_notes(known, gone)),
        seconds=time.monotonic() - began,
    )


def _check_out(path: Path) -> None:
    """Check, before anything is trained, that the model can be written and replaces no other file.

    Raises:
        DfalError: where it cannot be written, or another file is there.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise DfalError(f"the model {path} cannot be written there: name another file with --out")
    if path.is_dir():
        raise DfalError(f"{path} is a folder: name a file with --out")
    if path.is_file() and not _is_model(path):
        raise DfalError(
            f"{path} is there already and no model of dfal: name another file with --out"
        )


def _is_model(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except Exception:  # it may be any file
        return False


def _allowed_backbone(store: Path, settings: FinalSettings, in_use: str) -> str:
    """Return the name of the backbone, which runs no code that only the store names.

    Raises:
        DfalError: for code of a store.
    """
    if settings.backbone:
        return settings.backbone
    if in_use == EVERY_IMAGE:
        return NO_BACKBONE
    if in_use not in {AUTO, NO_BACKBONE} and not is_registered(in_use):
        raise unnamed_code(store, "backbone", in_use)
    return in_use


def _compares_networks(name: str, settings: FinalSettings, stored: Settings) -> bool:
    """Return whether networks from scratch are compared: where pixels are learnt from.

    Who names the pixels as backbone means nothing else.
    """
    is_open = not settings.backbone and stored.backbone in _ON_PIXELS and stored.model in NETWORKS
    return name in _ON_PIXELS or (name == PIXELS and is_open)


def _allowed_network(store: Path, settings: FinalSettings, stored: Settings) -> str:
    """Return the name of the network from scratch, which runs no code that only the store names.

    Raises:
        DfalError: for code of a store.
    """
    if stored.model not in NETWORKS and settings.model != stored.model:
        raise unnamed_code(store, "network", stored.model, option="model")
    return stored.model


def _allowed_fit(
    store: Path, settings: FinalSettings, stored: Settings, backbone: str
) -> CustomFit | None:
    """Return the user's own training; None where there is none. Only what is named now is run.

    Raises:
        DfalError: for code of a store, for a function that cannot be found, and for a backbone.
    """
    if backbone not in _ON_PIXELS:
        if settings.fit:
            raise DfalError(
                f"the training {settings.fit} trains a network on pixels, but the backbone"
                f" {backbone} gives features: say --backbone none, or leave out --fit"
            )
        return None
    if stored.fit and not settings.fit:
        raise unnamed_code(store, "training", stored.fit, option="fit")
    return load_fit(settings.fit) if settings.fit else None


def _image(stored: Settings, settings: FinalSettings) -> tuple[int, int, int]:
    """Return channels, height and width of images as a network without a backbone takes them."""
    side = settings.size or stored.size
    return stored.channels, side, side


def _open_backbones(
    name: str, image: tuple[int, int, int], size: int, device: str, *, has_networks: bool
) -> tuple[list[Backbone | None], list[str]]:
    """Load the backbones of a name; None stands for a network from scratch.

    Args:
        name: of the backbone, or auto.
        image: channels, height and width, for what has no size of its own.
        size: the side for all others; 0 for their own.
        device: where they compute.
        has_networks: whether networks from scratch are compared, too.

    Returns:
        Those that are to be compared, and what the user must know.

    Raises:
        DfalError: where one that was named cannot be loaded.
    """
    found, note = open_backbones(name, image, size)
    for backbone in found:
        backbone.network.to(device)
    scratch = [None] if has_networks else []
    if name == AUTO and len(found) == 1:
        note = "no pretrained network is installed: pip install 'dfal[photos]' brings one"
    return [*found, *scratch], [note] if note else []


def _measure(
    network: nn.Module, learner: FinalLearner, known: Known, proceed: Proceed
) -> tuple[Measured | None, dict[str, Measured]]:
    """Measure a network on the hold-out, as a whole and by class, from the image files."""
    images = known.hold_out
    if not len(images):
        return None, {}
    is_right = np.zeros(len(images), bool)
    for start in range(0, len(images), MEASURE_BATCH):
        chunk = images[start : start + MEASURE_BATCH]
        decoded = decode(known, chunk, learner.image, lambda *_: None)
        predicted = predict(network, decoded.images.take(torch.arange(len(chunk)))).argmax(1)
        truth = known.hold_out_labels[start : start + len(chunk)]
        is_right[start : start + len(chunk)] = predicted.numpy() == truth
        proceed("measuring accuracy", start + len(chunk), len(images))
    by_class = {
        name: Measured.count(int(is_right[known.hold_out_labels == k].sum()), int(count))
        for k, name in enumerate(known.classes)
        if (count := (known.hold_out_labels == k).sum())
    }
    return Measured.count(int(is_right.sum()), len(images)), by_class


def _notes(known: Known, gone: Mapping[int, str]) -> Iterator[str]:
    """Yield what the user must know of the labels."""
    if gone:
        index, reason = next(iter(gone.items()))
        more = f", and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        yield f"left out {known.names[index]}: {reason}{more}"
    for name, count in zip(known.classes, known.counts, strict=True):
        if not count:
            yield f"no label of {name!r} to train on: the model does not recognise it"
    if not len(known.hold_out):
        yield "the store has no answers about hold-out images, so the accuracy is not known"
