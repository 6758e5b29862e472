"""How far it is: accuracy on the hold-out, the learning curve, labels left to a target, whether it looks time to stop."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from dfal.agreement import alpha, kappa, wilson
from dfal.labelling.rows import Model
from dfal.labelling.state import State
from dfal.types import DECLINED

ENOUGH = 20
"""Hold-out answers from which on a number of labels left is worth saying."""
NETWORKS = 4
"""Networks of different sizes that a curve needs."""
RESAMPLES = 200
"""Bootstrap samples for the interval of the labels left."""
STABLE, STEADY = 0.99, 3
"""It looks time to stop when STEADY pairs of networks in a row have a kappa of STABLE (Bloodgood & Vijay-Shanker 2009)."""


@dataclass(frozen=True)
class Accuracy:
    """Of a network, on the hold-out answers: the fraction it gets right, and its 95 % Wilson interval.

    Attributes:
        annotations: on how many answers it was trained.
        right, of: hold-out answers it gets right, of how many.
    """

    model: int
    annotations: int
    right: int
    of: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelsLeft:
    """How many more labels until the target is reached: the estimate, and where 80 % of the resampled ones lie; inf is out of
    reach."""

    labels: float
    low: float
    high: float


@dataclass(frozen=True)
class Progress:
    """Everything that the page always shows.

    Attributes:
        images, unreadable, known: in the folder, of which set aside, of which came with a label.
        annotations: images that somebody gave a class to; `trained_on` of them and of the known ones teach, `held_out` measure.
        declined, flagged: images.
        left: images that can still be asked about.
        classes: name → images that have it.
        people: name → answers of theirs that hold.
        curve: of every network, on all hold-out answers there are; the last one is the present one.
        seconds: a label takes, the median of the latest; None before the first.
        labels_left: to the target; None as long as it is too early to say.
        agreement: of each network with the one before it, Cohen's kappa on images drawn at random.
        stop: whether it looks time to stop.
        alpha: Krippendorff's, where several people are asked about each image; None where nothing can be said.
        trouble: why no network could be trained; empty where one was.
    """

    images: int
    unreadable: int
    known: int
    annotations: int
    trained_on: int
    held_out: int
    declined: int
    flagged: int
    left: int
    classes: dict[str, int]
    people: dict[str, int]
    curve: list[Accuracy]
    seconds: float | None
    target: float
    labels_left: LabelsLeft | None
    agreement: list[float]
    stop: bool
    alpha: float | None
    trouble: str


def progress(state: State) -> Progress:
    """How far it is."""
    labels = state.labels
    annotated = state.annotated
    counts = np.bincount(labels[labels >= 0], minlength=len(state.classes)).tolist()
    right = hold_out(state)
    found = curve(state.models, right)
    agreement = [
        kappa(a.seen, b.seen)
        for a, b in zip(state.models, state.models[1:], strict=False)
        if np.array_equal(a.watched, b.watched)
    ]
    reached = bool(found) and found[-1].value >= state.settings.target
    steady = len(agreement) >= STEADY and min(agreement[-STEADY:]) >= STABLE
    return Progress(
        images=len(labels),
        unreadable=len(state.unreadable),
        known=int((state.known >= 0).sum()),
        annotations=int(annotated.sum()),
        trained_on=int(state.trained_on.sum()),
        held_out=int((annotated & state.held).sum()),
        declined=int((labels == DECLINED).sum()),
        flagged=len(state.flags),
        left=state.left,
        classes=dict(zip(state.classes, counts, strict=True)),
        people=dict(Counter(person for votes in state.votes.values() for person in votes)),
        curve=found,
        seconds=float(np.median(state.seconds)) if state.seconds else None,
        target=state.settings.target,
        labels_left=None if reached else labels_left(state.models, right, state.settings.target),
        agreement=agreement,
        stop=steady and bool(found) and found[-1].of > 0,
        alpha=alpha([list(votes.values()) for votes in state.votes.values()]) if state.settings.votes > 1 else None,
        trouble=state.trouble,
    )


def hold_out(state: State) -> dict[int, int]:
    """The hold-out answers: image → class."""
    return {int(image): int(state.labels[image]) for image in np.flatnonzero(state.held & (state.labels >= 0))}


def curve(models: Sequence[Model], answers: dict[int, int]) -> list[Accuracy]:
    """Accuracy of each network on all hold-out answers that there are now, those that came after it too: it never saw them."""
    points = []
    for model in models:
        right = judged(model, answers)
        if len(right):
            low, high = wilson(int(right.sum()), len(right))
            points.append(
                Accuracy(model.model, model.annotations, int(right.sum()), len(right), float(right.mean()), low, high)
            )
    return points


def judged(model: Model, answers: dict[int, int]) -> Bool[np.ndarray, "h"]:
    """For each hold-out answer among the watched images, whether the network's class is that one."""
    pairs = [
        (seen, answers[image])
        for image, seen in zip(model.watched.tolist(), model.seen.tolist(), strict=True)
        if image in answers
    ]
    return np.array([seen == label for seen, label in pairs], dtype=bool)


def labels_left(models: Sequence[Model], answers: dict[int, int], target: float) -> LabelsLeft | None:
    """From a power law, error = a · n^−b, through the errors of all networks; None as long as there are too few.

    The hold-out images are drawn again with replacement, all networks together, for the interval.
    """
    latest = [model for model in models if len(model.watched) == len(models[-1].watched)] if models else []
    sizes = np.array([model.annotations for model in latest], dtype=float)
    if len(set(sizes.tolist())) < NETWORKS:
        return None
    right = np.array([judged(model, answers) for model in latest])
    if right.shape[1] < ENOUGH:
        return None
    rng = np.random.default_rng(len(sizes))
    draws = [np.arange(right.shape[1]), *rng.integers(0, right.shape[1], (RESAMPLES, right.shape[1]))]
    wrong = np.stack([(~right[:, draw]).sum(1) for draw in draws])
    needed = reached_at(sizes, (wrong + 0.5) / (right.shape[1] + 1), 1 - target)
    left = np.maximum(needed - sizes[-1], 0)
    low, high = np.quantile(left[1:], [0.1, 0.9], method="nearest")
    return LabelsLeft(float(np.ceil(left[0])), float(np.floor(low)), float(np.ceil(high)))


def reached_at(sizes: Float64[np.ndarray, "m"], errors: Float64[np.ndarray, "r m"], error: float) -> Float64[np.ndarray, "r"]:
    """The n at which error = a · n^−b, the line of least squares through the logarithms, has come down to `error`; inf where it
    does not fall, and beyond a hundred times the largest size, of which no such line can tell anything."""
    x, y = np.log(sizes), np.log(errors)
    weights = sizes / sizes.sum()  # networks of more answers tell more about what comes
    x0, y0 = weights @ x, y @ weights
    slope = ((y - y0[:, None]) * (x - x0)) @ weights / (weights @ (x - x0) ** 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        n = np.exp(x0 + (np.log(error) - y0) / slope)
    known: Float64[np.ndarray, r] = np.where((slope < 0) & (n < 100 * sizes.max()), n, np.inf)
    return known
