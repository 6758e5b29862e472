"""Find, filter and correct: every image that somebody said something about, the most suspicious labels first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfal.labelling.session import Session
from dfal.labelling.state import State
from dfal.listing import nfc
from dfal.types import DECLINED, UNKNOWN, DfalError

FILTERS = ("labelled", "suspicious", "flagged", "declined", "disputed", "hold-out", "all")
ORDERS = ("suspicious", "latest", "path")
MOST = 200
"""Images on a page of the review."""


@dataclass(frozen=True)
class Reviewed:
    """An image in the review.

    Attributes:
        image, path: which.
        label: its class; None where it has none.
        declined: whether people did not want to label it, or could not agree.
        source: where the label comes from: "folder", "people", "correction", or "".
        votes: person → class, or None where they declined.
        note: of its flag; None where it has none.
        seen, sure, distance: what a network that was not trained on it sees in it, how sure it is, and how far the boundary is.
        suspicion: how far inside another class the network sees it; 0 where it sees the label.
    """

    image: int
    path: str
    label: int | None
    declined: bool
    source: str
    votes: dict[str, int | None]
    note: str | None
    seen: int | None
    sure: float | None
    distance: float | None
    suspicion: float
    hold_out: bool


@dataclass(frozen=True)
class Found:
    """A page of the review, and how many there are in all."""

    images: list[Reviewed]
    total: int


def review(
    session: Session,
    *,
    show: str = "labelled",
    label: int | None = None,
    text: str = "",
    order: str = "suspicious",
    start: int = 0,
    most: int = 60,
) -> Found:
    """Some of the images that somebody said something about.

    Args:
        session: whose images.
        show: one of FILTERS.
        label: only images of this class.
        text: only images whose path has this in it.
        order: one of ORDERS; "suspicious" begins with labels that a network contradicts from far inside another class.
        start, most: which part.
    """
    if show not in FILTERS or order not in ORDERS:
        raise DfalError(
            f"there is no review of {show!r} by {order!r}: show one of {', '.join(FILTERS)}, by {', '.join(ORDERS)}"
        )
    state = session.refresh()
    latest = {image: (seen, sure, distance) for image, seen, sure, distance in session.rows(_LATEST)}
    needle = nfc(text).casefold()
    chosen = [
        image
        for image in _candidates(state, show)
        if (label is None or state.labels[image] == label) and (not needle or needle in nfc(state.paths[image]).casefold())
    ]
    suspicion = {image: _suspicion(int(state.labels[image]), latest.get(image)) for image in chosen}
    if show == "suspicious":
        chosen = [image for image in chosen if suspicion[image] > 0]
    if order == "suspicious":
        chosen.sort(key=lambda image: (-suspicion[image], image))
    elif order == "path":
        chosen.sort(key=lambda image: state.paths[image])
    else:
        when = dict(session.rows("SELECT image, max(answer) FROM answers GROUP BY image"))
        chosen.sort(key=lambda image: -when.get(image, 0))
    shown = chosen[start : start + min(most, MOST)]
    return Found([_reviewed(state, image, latest.get(image), suspicion[image]) for image in shown], len(chosen))


_LATEST = "SELECT image, seen, sure, distance FROM looks WHERE look IN (SELECT max(look) FROM looks GROUP BY image)"


def _candidates(state: State, show: str) -> Sequence[int]:
    spoken = np.zeros(len(state.labels), bool)
    spoken[[*state.votes, *state.corrected, *state.flags]] = True
    spoken |= state.labels != UNKNOWN
    kept = {
        "labelled": state.labels >= 0,
        "suspicious": state.labels >= 0,
        "declined": state.labels == DECLINED,
        "hold-out": spoken & state.held,
        "all": spoken,
    }
    if show in kept:
        chosen: list[int] = np.flatnonzero(kept[show]).tolist()
        return chosen
    if show == "flagged":
        return sorted(state.flags)
    return sorted(image for image, votes in state.votes.items() if len(set(votes.values())) > 1)


def _suspicion(label: int, look: tuple[int, float, float | None] | None) -> float:
    """0 where the network sees the label. Else the distance, and 1 more, so that a contradiction always counts; without a
    distance, how sure it is."""
    if look is None or label < 0 or look[0] == label:
        return 0.0
    _, sure, distance = look
    return sure if distance is None else 1 + distance


def _reviewed(state: State, image: int, look: tuple[int, float, float | None] | None, suspicion: float) -> Reviewed:
    label = int(state.labels[image])
    votes = state.votes.get(image, {})
    source = "correction" if image in state.corrected else "people" if votes else "folder" if label >= 0 else ""
    seen, sure, distance = look or (None, None, None)
    return Reviewed(
        image=image,
        path=state.paths[image],
        label=label if label >= 0 else None,
        declined=label == DECLINED,
        source=source,
        votes={person: None if vote < 0 else vote for person, vote in votes.items()},
        note=state.flags.get(image),
        seen=seen,
        sure=sure,
        distance=distance,
        suspicion=suspicion,
        hold_out=bool(state.held[image]),
    )
