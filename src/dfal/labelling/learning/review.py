"""Find, filter and correct: every image that somebody said something about, the most suspicious
labels first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dfal.data.scan import nfc
from dfal.errors import DfalError
from dfal.labelling.learning.doubts import is_reliable
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.query import DECLINED, UNKNOWN
from dfal.stats.agreement import ENOUGH

FILTERS = (
    "labelled",
    "suspicious",
    "flagged",
    "declined",
    "disputed",
    "disagreed",
    "hold-out",
    "all",
)
ORDERS = ("suspicious", "latest", "path")
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
    """Some of the images that somebody said something about.

    Args:
        session: whose images.
        show: one of FILTERS.
        label: only images of this class.
        text: only images whose path has this in it.
        order: one of ORDERS; "suspicious" begins with labels that a network doubts, from far inside
            another class, and goes on with those that it contradicts.
        start, most: which part.
    """
    if show not in FILTERS or order not in ORDERS:
        raise DfalError(
            f"there is no review of {show!r} by {order!r}: show one of {', '.join(FILTERS)}, by"
            f" {', '.join(ORDERS)}"
        )
    state = session.refresh()
    latest = {
        image: (seen, sure, distance) for image, seen, sure, distance in session.rows(_LATEST)
    }
    needle = nfc(text).casefold()
    chosen = [
        image
        for image in _candidates(state, show)
        if (label is None or state.labels[image] == label)
        and (not needle or needle in nfc(state.paths[image]).casefold())
    ]
    reliable, checked = _checked(state, latest)
    suspicion = {
        image: _suspicion(int(state.labels[image]), latest.get(image)) if reliable else 0.0
        for image in chosen
    }
    if show == "suspicious":
        chosen = [image for image in chosen if suspicion[image] > 0]
    if order == "suspicious":
        chosen.sort(
            key=lambda image: (-suspicion[image], -_contradiction(state, image, latest), image)
        )
    elif order == "path":
        chosen.sort(key=lambda image: state.paths[image])
    else:
        when = dict(session.rows("SELECT image, max(answer) FROM answers GROUP BY image"))
        chosen.sort(key=lambda image: -when.get(image, 0))
    shown = chosen[start : start + min(most, MAX_REVIEW_PAGE)]
    return ReviewPage(
        [_reviewed(state, image, latest.get(image), suspicion[image]) for image in shown],
        len(chosen),
        checked,
    )


_LATEST = (
    "SELECT image, seen, sure, distance FROM looks WHERE look IN (SELECT max(look) FROM looks GROUP"
    " BY image)"
)


def _candidates(state: State, show: str) -> Sequence[int]:
    spoken = np.zeros(len(state.labels), bool)
    spoken[[*state.votes, *state.corrected, *state.flags]] = True
    spoken |= state.labels != UNKNOWN
    kept = {
        "labelled": state.labels >= 0,
        "suspicious": state.labels >= 0,
        "hold-out": spoken & state.hold_out,
        "all": spoken,
    }
    if show in kept:
        chosen: list[int] = np.flatnonzero(kept[show]).tolist()
        return chosen
    if show == "flagged":
        return sorted(state.flags)
    if show == "disputed":
        return state.disputed
    if show == "declined":
        skipped: list[int] = np.flatnonzero(state.labels == DECLINED).tolist()
        return [image for image in skipped if not state.is_disputed(image)]
    return sorted(image for image, votes in state.votes.items() if len(set(votes.values())) > 1)


_LookedAt = tuple[int, float, float | None]
"""The class that a network sees, its probability, and the distance where it doubts the label."""


def _checked(state: State, latest: Mapping[int, _LookedAt]) -> tuple[bool, str]:
    """Return whether the networks are right often enough to doubt a label, and a sentence about
    it."""
    images = [image for image in latest if state.labels[image] >= 0]
    labels = state.labels[images]
    n, right = (
        len(images),
        int((labels == np.array([latest[image][0] for image in images], np.int64)).sum()),
    )
    if not n:
        return (
            False,
            (
                "No model has checked the labels yet. It does when nobody has answered for a few"
                " seconds."
            ),
        )
    if n < ENOUGH:
        return (
            False,
            (
                f"Models have checked {n} labels so far. They can doubt one when they have checked"
                f" {ENOUGH}."
            ),
        )
    if not is_reliable(right, n, int(np.bincount(labels).max())):
        return (
            False,
            f"Models agree with {right:,} of {n:,} labels: not often enough to doubt any of them.",
        )
    return True, f"Models agree with {right:,} of {n:,} labels."


def _suspicion(label: int, look: _LookedAt | None) -> float:
    """Return 0 where the network sees the label or does not doubt it, else 1 more than the
    distance."""
    if look is None or label < 0 or look[0] == label or look[2] is None:
        return 0.0
    return 1 + look[2]


def _contradiction(state: State, image: int, latest: Mapping[int, _LookedAt]) -> float:
    """Return how probable a network takes another class than the label; 0 where it sees the
    label."""
    look = latest.get(image)
    return (
        0.0
        if look is None or state.labels[image] < 0 or look[0] == state.labels[image]
        else look[1]
    )


def _reviewed(
    state: State, image: int, look: tuple[int, float, float | None] | None, suspicion: float
) -> ReviewRow:
    label = int(state.labels[image])
    votes = state.votes.get(image, {})
    source = (
        "correction"
        if image in state.corrected
        else "people"
        if votes
        else "folder"
        if label >= 0
        else ""
    )
    seen, sure, distance = look or (None, None, None)
    return ReviewRow(
        image=image,
        path=state.paths[image],
        label=label if label >= 0 else None,
        declined=label == DECLINED and not state.is_disputed(image),
        disputed=state.is_disputed(image),
        source=source,
        votes={person: None if vote < 0 else vote for person, vote in votes.items()},
        note=state.flags.get(image),
        predicted=seen,
        confidence=sure,
        distance=distance,
        suspicion=suspicion,
        hold_out=bool(state.hold_out[image]),
    )
