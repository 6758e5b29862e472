"""The labels of a store, or its model, written to a file or folder, with what came out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dfal import models
from dfal.cli.folder_summary import count_of
from dfal.errors import DfalError
from dfal.labelling.export import FORMATS, ModelFormat, labels
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.store.session import Session
from dfal.labelling.validation import image_file
from dfal.models.weights import SavedModel
from dfal.spreadsheet import formulas
from dfal.storage import real_path


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        labels: how a label came about → the count of such labels.
        missing: paths of labelled images that are no longer there, and were left out.
        notes: what the user must know of it, one sentence each.
    """

    labels: dict[str, int]
    missing: list[str]
    notes: list[str]


def write_export(
    store: Path, format_name: str, path: Path, guess: bool, network: str | None
) -> Exported | None:
    """Write the labels of a store, or its model.

    Args:
        store: of `dfal label`; a page may be open over it.
        format_name: a name of `FORMATS`.
        path: the file or folder to write.
        guess: whether to add the latest model's labels of images that nobody labelled.
        network: the package.module:function that built the model's network, if its code may be run.

    Returns:
        What labels were written; None for a format of the model.

    Raises:
        DfalError: where there is no label or no model, or the file or folder cannot be written.
    """
    form = FORMATS[format_name]
    with Session.open(store, write=False) as session:
        if isinstance(form, ModelFormat):
            form.write(latest_model(store, network), path)
            return None
        saved = latest_model(store, network) if guess else None
        rows = labels(session, pseudo_labels(session, saved) if saved else None)
        if not rows:
            raise DfalError(f"{store} holds no label yet: answer some questions first")
        missing = form.write(rows, Path(session.settings.folder), path)
    vanished = set(missing)
    counts = Counter(row.how for row in rows if form.takes(row) and row.path not in vanished)
    notes = [formulas(row.path for row in rows)] if format_name == "csv" else []
    if saved:
        notes.append(f"pseudo-labels are of a model: {saved.card.caution()}")
    if missing:
        listed = ", ".join(missing[:5]) + (" …" if missing[5:] else "")
        notes.append(f"{count_of(len(missing), 'image')} no longer there and left out: {listed}")
    return Exported(dict(counts.most_common()), missing, [note for note in notes if note])


def latest_model_path(store: Path) -> Path | None:
    """Return where the latest model of a store is; None where none was trained yet."""
    path = model_path(real_path(store))
    return path if path.exists() else None


def latest_model(store: Path, network: str | None) -> SavedModel:
    """Load the latest model of a store.

    Raises:
        DfalError: where no model was trained yet, or it cannot be loaded.
    """
    path = latest_model_path(store)
    if path is None:
        raise DfalError(
            f"there is no model {model_path(real_path(store))} yet: label some images of two"
            " classes first"
        )
    return models.load(path, network)


def pseudo_labels(session: Session, saved: SavedModel) -> dict[int, tuple[int, float]]:
    """Return image → class and probability, by a model, of the images that have no label.

    Raises:
        DfalError: where the model has a class that the store has not.
    """
    state = session.refresh()
    source = Path(session.settings.folder)
    images = {
        image_file(source, path): image
        for image, path in enumerate(state.paths)
        if state.labels[image] < 0 and image not in state.unreadable
    }
    number = dict(state.former) | {name: index for index, name in enumerate(state.classes)}
    if unknown := [name for name in saved.card.classes if name not in number]:
        raise DfalError(
            f"the model next to the store has the class {unknown[0]!r}, which the store has not:"
            " train it again"
        )
    return {
        images[prediction.path]: (number[prediction.label], prediction.confidence)
        for prediction in models.label(saved, list(images))
        if isinstance(prediction, models.Prediction)
    }
