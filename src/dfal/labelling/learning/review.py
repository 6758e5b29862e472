"""List labels to look at again: find, filter, and sort by how suspicious they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dfal.data.path_names import nfc
from dfal.errors import DfalError
from dfal.labelling.learning.doubts import is_reliable
from dfal.labelling.store.records import Judgement
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.query import DECLINED, UNKNOWN
from dfal.stats.agreement import ENOUGH

Filter = Literal[
    "labelled", "suspicious", "flagged", "declined", "disputed", "disagreed", "hold-out", "all"
]
Order = Literal["suspicious", "latest", "path"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
ORDERS: tuple[Order, ...] = get_args(Order)
MAX_REVIEW_PAGE = 200
"""Images on a page of the review."""


@dataclass(frozen=True)
class ReviewRow:
    """An image in the review.

    Attributes:
        image, path: which.
        label: its class; None where it has none.
        declined: whether people skipped it.
        disputed: whether their votes are tied.
        source: where the label comes from: "folder", "people", "correction", or "".
        votes: person → class, or None where they declined.
        note: of its flag; None where it has none.
        seen, sure: the class that a network that was not trained on it sees in it, and the
        probability of that class.
        distance: to the boundary, where the network has reason to doubt the label.
        suspicion: how far inside another class the network sees it; 0 where it has no reason to
        doubt the label.
    """

    image: int
    path: str
    label: int | None
    declined: bool
    disputed: bool
    source: str
    votes: dict[str, int | None]
    note: str | None
    predicted: int | None
    confidence: float | None
    distance: float | None
    suspicion: float
    hold_out: bool


@dataclass(frozen=True)
class ReviewPage:
    """A page of the review.

    Attributes:
        images: those on the page.
        total: how many there are in all.
        checked: what networks have made of the labels so far, as a sentence.
    """

    images: list[ReviewRow]
    total: int
    checked: str


def review(
    session: Session,
    *,
    show: str = "labelled",
    label: int | None = None,
    text: str = "",
    order: str = "suspicious",
    start: int = 0,
    most: int = 60,
) -> ReviewPage:
    """Return a page of the images that somebody said something about.

    Args:
        session: whose images.
        show: one of FILTERS.
        label: only images of this class.
        text: only images whose path has this in it.
        order: one of ORDERS; "suspicious" begins with labels that a network doubts, from far inside
            another class, followed by those that it contradicts.
        start: how many images to leave out.
        most: images on the page.

    Raises:
        DfalError: for a filter or an order that there is not.
    """
    if show not in FILTERS or order not in ORDERS:
        raise DfalError(
            f"there is no review of {show!r} by {order!r}: show one of {', '.join(FILTERS)}, by"
            f" {', '.join(ORDERS)}"
        )
    state, judgements = session.refresh(), session.model_outputs.judgements()
    needle = nfc(text).casefold()
    chosen = [
        image
        for image in _candidates(state, show)
        if (label is None or state.labels[image] == label)
        and (not needle or needle in nfc(state.paths[image]).casefold())
    ]
    reliable, checked = _checked(state, judgements)
    suspicion = {
        image: _suspicion(int(state.labels[image]), judgements.get(image)) if reliable else 0.0
        for image in chosen
    }
    if show == "suspicious":
        chosen = [image for image in chosen if suspicion[image] > 0]
    if order == "suspicious":
        chosen.sort(
            key=lambda image: (
                -suspicion[image],
                -_contradiction(int(state.labels[image]), judgements.get(image)),
                image,
            )
        )
    elif order == "path":
        chosen.sort(key=lambda image: state.paths[image])
    else:
        answers = session.last_answers()
        chosen.sort(key=lambda image: -answers[image].id if image in answers else 0)
    page = chosen[start : start + min(most, MAX_REVIEW_PAGE)]
    return ReviewPage(
        [_row(state, image, judgements.get(image), suspicion[image]) for image in page],
        len(chosen),
        checked,
    )


def _candidates(state: State, show: str) -> Sequence[int]:
    handled = state.labels != UNKNOWN
    handled[[*state.votes, *state.corrected, *state.flags]] = True
    masks = {
        "labelled": state.labels >= 0,
        "suspicious": state.labels >= 0,
        "hold-out": handled & state.hold_out,
        "all": handled,
    }
    if show in masks:
        chosen: list[int] = np.flatnonzero(masks[show]).tolist()
        return chosen
    if show == "flagged":
        return sorted(state.flags)
    if show == "disputed":
        return state.disputed
    if show == "declined":
        skipped: list[int] = np.flatnonzero(state.labels == DECLINED).tolist()
        return [image for image in skipped if not state.is_disputed(image)]
    return sorted(image for image, votes in state.votes.items() if len(set(votes.values())) > 1)


def _checked(state: State, judgements: Mapping[int, Judgement]) -> tuple[bool, str]:
    """Return whether the networks are reliable enough to doubt labels, and a sentence on it."""
    images = [image for image in judgements if state.labels[image] >= 0]
    labels = state.labels[images]
    predicted = np.array([judgements[image].predicted for image in images], np.int64)
    n, right = len(images), int((labels == predicted).sum())
    if not n:
        return False, (
            "No model has checked the labels yet. It does when nobody has answered for a few"
            " seconds."
        )
    if n < ENOUGH:
        return False, (
            f"Models have checked {n} labels so far. They can doubt one when they have checked"
            f" {ENOUGH}."
        )
    agreement = f"Models agree with {right:,} of {n:,} labels"
    if not is_reliable(right, n, int(np.bincount(labels).max())):
        return False, f"{agreement}: not often enough to doubt any of them."
    return True, f"{agreement}."


def _suspicion(label: int, judgement: Judgement | None) -> float:
    """Return 1 + the distance, or 0 where the network does not doubt the label."""
    if judgement is None or label < 0 or judgement.predicted == label:
        return 0.0
    return 0.0 if judgement.distance is None else 1 + judgement.distance


def _contradiction(label: int, judgement: Judgement | None) -> float:
    """Return how probable another class is to a network; 0 where it predicts the label."""
    if judgement is None or label < 0 or judgement.predicted == label:
        return 0.0
    return judgement.confidence


def _row(state: State, image: int, judgement: Judgement | None, suspicion: float) -> ReviewRow:
    label, votes = int(state.labels[image]), state.votes.get(image, {})
    is_disputed = state.is_disputed(image)
    return ReviewRow(
        image=image,
        path=state.paths[image],
        label=label if label >= 0 else None,
        declined=label == DECLINED and not is_disputed,
        disputed=is_disputed,
        source=_source(state, image),
        votes={person: None if vote < 0 else vote for person, vote in votes.items()},
        note=state.flags.get(image),
        predicted=judgement.predicted if judgement else None,
        confidence=judgement.confidence if judgement else None,
        distance=judgement.distance if judgement else None,
        suspicion=suspicion,
        hold_out=bool(state.hold_out[image]),
    )


def _source(state: State, image: int) -> str:
    if image in state.corrected:
        return "correction"
    if image in state.votes:
        return "people"
    return "folder" if state.labels[image] >= 0 else ""
