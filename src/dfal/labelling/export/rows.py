"""The rows of an export: one for each image with a label or a flag."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dfal.labelling.store.records import LastAnswer
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State


@dataclass(frozen=True)
class Label:
    """An image and its label. The fields are the columns of an exported table.

    Attributes:
        path: of the image, in its folder.
        label: name of the class; empty where people skipped the image.
        by: who labelled it, separated by semicolons; "network" for a prediction.
        at: when, in UTC; empty where the image came with its label.
        how: "given" by people; "known" from the folder; "declined" where people skipped it;
            "disputed" where their votes are tied; "guessed" by the model; "flagged" where there is
            a flag only.
        confidence: of a prediction, the model's probability; of several people's votes, the
            fraction for this label; 1 otherwise, 0 without a label.
        flagged: whether the image has a flag.
        note: of the flag.
    """

    path: str
    label: str
    by: str
    at: str
    how: str
    confidence: float
    flagged: bool = False
    note: str = ""


def labels(
    session: Session, predictions: Mapping[int, tuple[int, float]] | None = None
) -> list[Label]:
    """Return a row for each image with a label or a flag, by index.

    Args:
        session: of the store.
        predictions: image → predicted class and its probability, for images without a label.
    """
    state = session.refresh()
    latest = session.last_answers()
    predictions = predictions or {}
    rows = (
        _row(state, image, latest.get(image), predictions.get(image))
        for image in range(len(state.paths))
    )
    return [row for row in rows if row is not None]


def _row(
    state: State,
    image: int,
    latest: LastAnswer | None,
    prediction: tuple[int, float] | None,
) -> Label | None:
    """Return the row of an image, or None where there is nothing to say about it.

    Args:
        state: of the store.
        image: the image's index.
        latest: the latest answer about it.
        prediction: the predicted class and its probability.
    """
    path, label = state.paths[image], int(state.labels[image])
    if latest and (state.votes.get(image) or image in state.corrected):
        row = _answered(state, image, latest.person, latest.at)
    elif label >= 0:
        row = Label(path, state.classes[label], "", "", "known", 1.0)
    elif prediction:
        index, probability = prediction
        row = Label(path, state.classes[index], "network", "", "guessed", round(probability, 4))
    elif image in state.flags:
        row = Label(path, "", "", "", "flagged", 0.0)
    else:
        row = None
    if row is not None and image in state.flags:
        row = replace(row, flagged=True, note=state.flags[image])
    return row


def _answered(state: State, image: int, last_person: str, at: float) -> Label | None:
    """Return the row of an image that people answered, or None while votes are missing."""
    label = int(state.labels[image])
    votes = state.votes.get(image, {})
    corrected = image in state.corrected
    agreeing = [person for person, vote in votes.items() if vote == label]
    people = [last_person] if corrected else agreeing or list(votes)
    path, by, when = state.paths[image], "; ".join(people), _utc(at)
    if label >= 0:
        share = 1.0 if corrected else len(agreeing) / len(votes)
        return Label(path, state.classes[label], by, when, "given", share)
    if not corrected and len(votes) < state.settings.votes:
        return None
    how = "disputed" if state.is_disputed(image) else "declined"
    return Label(path, "", by, when, how, 0.0)


def _utc(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a clock was set to what is in no calendar
        return ""
