"""Open a session over a folder of images.

It brings together what the store has, what the options say, and which labels the folder has.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dfal import backbones
from dfal.backbones.registry import is_registered
from dfal.data.image_folder import Folder
from dfal.data.listing import Listing, side_and_channels
from dfal.data.path_names import PathIndex, class_key, nfc
from dfal.errors import DfalError
from dfal.labelling.names import class_names
from dfal.labelling.settings import AUTO, NO_BACKBONE, TRAINING_OPTIONS, Settings
from dfal.labelling.store.session import Session
from dfal.labelling.validation import check_path
from dfal.nn import NETWORKS
from dfal.nn.custom_fit import load_fit
from dfal.nn.inference import predict
from dfal.nn.input_size import image_of
from dfal.nn.networks import build
from dfal.nn.training import check_device
from dfal.plugins import describe_exception, unnamed_code
from dfal.strategies import named


def open_session(
    opened: contextlib.ExitStack,
    photos: Path,
    store: Path,
    classes: Sequence[str] = (),
    *,
    labels: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Session, Folder]:
    """Open a session over a folder of images, and the folder, before anything is written.

    Args:
        opened: closes both.
        photos: the folder.
        store: the file for every answer. Where there is one, it is resumed.
        classes: names beside those that the store has.
        labels: a CSV of labels; without it the names of sub-folders are labels.
        options: settings, and those of training in TRAINING_OPTIONS, by their names; the others
            stay what they were.

    Returns:
        The session, and its folder in the session's order.
    """
    past = _past(store)
    settings = _settings(past, options or {}, store)
    if (
        past.paths
        and past.settings.folder != str(photos.resolve())
        and "cache" not in (options or {})
    ):
        settings = replace(
            settings, cache=""
        )  # the store of somebody else names a folder of theirs
    listing = Listing.of(photos)
    _refuse_another(photos, store, past, listing)
    for path in past.paths:
        check_path(path, str(photos))
    settings = _with_input_size(settings, photos, listing)
    folder = opened.enter_context(
        Folder.open(
            photos,
            settings.cache or None,
            settings.size or None,
            settings.channels or None,
            labels,
            classes=[*past.classes, *past.former, *classes],
            order=past.paths,
            listing=listing,
        )
    )
    h, _, c = folder.shape
    settings = replace(settings, folder=str(photos.resolve()), size=h, channels=c)
    _check_network(settings.model, (c, h, h))
    there = {*map(nfc, past.classes)}
    classes = [
        *past.classes,
        *(
            name
            for name in classes
            if nfc(name) not in there and class_key(name) not in past.former
        ),
    ]
    classes, labelled = _known(folder, classes, past.former, photos, labels)
    paths = [*past.paths, *folder.paths[len(past.paths) :]]
    known = {paths[index]: name for index, name in labelled.items()}
    return opened.enter_context(Session.start(store, settings, paths, classes, known)), folder


@dataclass(frozen=True)
class _Past:
    """What a store says before it is resumed; of a new one nothing.

    Attributes:
        former: what classes were called before they were renamed, plain → their names now.
    """

    settings: Settings = field(default_factory=Settings)
    paths: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)


def _past(store: Path) -> _Past:
    """Return what a store says."""
    if not store.exists():
        return _Past()
    with Session.open(store) as session:
        former = {
            class_key(name): session.classes[number]
            for name, number in session.state.former.items()
        }
        return _Past(session.settings, tuple(session.state.paths), tuple(session.classes), former)


def _settings(past: _Past, options: Mapping[str, Any], store: Path) -> Settings:
    taught = {name: value for name, value in options.items() if name in TRAINING_OPTIONS}
    own = {name: value for name, value in options.items() if name not in TRAINING_OPTIONS}
    if "epochs" in taught and "steps" not in taught:
        taught["steps"] = 0  # a floor of steps would undo what was said
    settings = replace(past.settings, **own, training=replace(past.settings.training, **taught))
    if ("model" in options or settings.fit) and "backbone" not in options:
        settings = replace(settings, backbone=NO_BACKBONE)  # a network of one's own is meant
    _check_fit(settings, store, is_given="fit" in options)
    for backbone in (NO_BACKBONE, AUTO):
        named(settings.strategy_on(backbone))
    check_device(settings.device)
    if settings.model not in NETWORKS and store.exists() and "model" not in options:
        raise unnamed_code(store, "network", settings.model, option="model")
    _check_backbone(settings.backbone, store, is_given="backbone" in options)
    return settings


def _check_fit(settings: Settings, store: Path, *, is_given: bool) -> None:
    """Check that the user's own training is there, and trains on pixels.

    Raises:
        DfalError: where it is not, does not, or nobody named its code now.
    """
    if not settings.fit:
        return
    if settings.backbone != NO_BACKBONE:
        raise DfalError(
            f"the training {settings.fit} trains a network on pixels, but --backbone"
            f" {settings.backbone} learns from features: leave one of them out"
        )
    if store.exists() and not is_given:
        raise unnamed_code(store, "training", settings.fit, option="fit")
    load_fit(settings.fit)


def _check_backbone(name: str, store: Path, *, is_given: bool) -> None:
    """Check that a backbone can be loaded; what a hub has is downloaded now.

    Raises:
        DfalError: where it cannot be, and for the user's own code that nobody named now.
    """
    if name in {AUTO, NO_BACKBONE}:
        return
    if not is_registered(name) and store.exists() and not is_given:
        raise unnamed_code(store, "backbone", name)
    backbones.load(name)


def _with_input_size(settings: Settings, photos: Path, listing: Listing) -> Settings:
    """Return settings with the size and channels that a network of the user's was made for.

    What is set already stays, and what the network does not say is left to the folder.

    Raises:
        DfalError: where the network cannot be made, or says that its images are no squares.
    """
    if settings.model in NETWORKS or (settings.size and settings.channels):
        return settings
    side, channels = side_and_channels(photos, listing.entries)
    side, channels = settings.size or side, settings.channels or channels
    suited = (channels, side, side)
    c, h, w = image_of(build(settings.model, suited, 2), suited)
    if h != w and not settings.size:
        raise DfalError(
            f"the network {settings.model} was made for images of {h} × {w} pixels, but images are"
            f" scaled to squares: give --size {min(h, w)}, or another that it can take"
        )
    return replace(
        settings,
        size=settings.size or h,
        channels=settings.channels or (c if c in {1, 3} else channels),
    )


def _check_network(name: str, image: tuple[int, int, int]) -> None:
    """Check that a network can be made for images, takes them, and has a logit for each class.

    Raises:
        DfalError: where it cannot, does not, or has not.
    """
    model, classes = build(name, image, 2), 2
    if name in NETWORKS:
        return
    noise = torch.rand(2, *image, generator=torch.Generator().manual_seed(0))
    try:
        logits = predict(model, noise).shape[1]
    except DfalError as error:
        raise DfalError(f"the network {name} cannot be used: {error}") from error
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(
            f"the network {name} cannot take images of shape {image} ({describe_exception(error)})"
        ) from error
    if logits != classes:
        raise DfalError(
            f"the network {name} returns {logits} logits an image for {classes} classes: let it"
            " have as many as its function is asked for by classes"
        )


def _refuse_another(photos: Path, store: Path, past: _Past, listing: Listing) -> None:
    """Refuse another folder: one with less than half of the store's images.

    A folder may have moved, or got more images.

    Raises:
        DfalError: for another folder.
    """
    index = PathIndex(past.paths)
    there = sum(index.get(entry.path) >= 0 for entry in listing.entries)
    if past.paths and str(photos.resolve()) != past.settings.folder and 2 * there < len(past.paths):
        raise DfalError(
            f"{store} belongs to {past.settings.folder}, and of its {len(past.paths):,} images"
            f" {there:,} are in {photos}: name the folder that it belongs to, or another --store"
        )


def _known(
    folder: Folder,
    classes: Sequence[str],
    former: Mapping[str, str],
    photos: Path,
    labels: Path | None,
) -> tuple[list[str], dict[int, str]]:
    """Return all classes, and index → class of the images that came with a label.

    A CSV, or sub-folders where no class is named, may bring new classes. Otherwise only sub-folders
    that are called as a class are labels: the others may be dates or places.

    Raises:
        DfalError: for a name that no class can have.
    """
    alike = {**former, **{class_key(name): name for name in classes}}
    known = {
        i: name
        for i, name in folder.known.items()
        if labels or not classes or class_key(name) in alike
    }
    new = sorted({name for name in known.values() if class_key(name) not in alike})
    try:
        every = class_names([*classes, *new])
    except DfalError as error:
        source = (
            f"the labels in {labels}"
            if labels
            else f"the sub-folders of {photos} (name the classes with --classes)"
        )
        raise DfalError(f"{source}: {error}") from None
    alike |= {class_key(name): name for name in every}
    return every, {i: alike[class_key(name)] for i, name in known.items()}
