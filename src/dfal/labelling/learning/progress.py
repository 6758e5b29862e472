"""Measure the progress of a session.

Accuracy on the hold-out, the learning curve, the labels left to a target, and whether to stop.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from dfal.labelling.store.records import Model
from dfal.labelling.store.state import State
from dfal.query import DECLINED, UNKNOWN
from dfal.stats.agreement import ENOUGH, alpha, answers_to_confirm, kappa, wilson
from dfal.stats.sampling import evenly_spaced

MIN_CURVE_NETWORKS = 4
"""Networks of different sizes that a curve needs."""
BOOTSTRAP_SAMPLES = 200
"""Bootstrap samples for the interval of the labels left."""
MAX_CURVE_POINTS = 120
"""Networks of a curve: after many hours there are thousands, and this is asked for every second."""
STOP_KAPPA, STOP_PAIRS = 0.99, 3
"""It looks time to stop when STOP_PAIRS pairs of networks in a row have a kappa of STOP_KAPPA, the
networks of a pair a batch of labels apart.

Source: Bloodgood and Vijay-Shanker (2009).
"""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a network on the hold-out, with its 95 % Wilson interval.

    Attributes:
        model: the network's number.
        annotations: on how many answers it was trained.
        right, of: hold-out answers that it predicts, of how many.
        value, low, high: the fraction, and the ends of the interval.
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
    """How many more labels until the target is reached; inf is out of reach.

    Attributes:
        labels: the estimate.
        low, high: where 80 % of the bootstrap estimates lie.
    """

    labels: float
    low: float
    high: float


@dataclass(frozen=True)
class Baseline:
    """What always predicting one class would reach.

    Attributes:
        name: the commonest class of the hold-out answers.
        share: the fraction of them that have it.
        beaten: whether the lower end of the latest network's interval is above it.
    """

    name: str
    share: float
    beaten: bool


@dataclass(frozen=True)
class Progress:
    """Everything that the page always shows.

    Attributes:
        images, unreadable, known: in the folder, of which set aside, of which came with a label.
        annotations: images that somebody gave a class to; `trained_on` of them and of the known
        ones teach, `held_out` measure.
        declined, disputed, flagged: images that people skipped; whose votes are tied; with a flag.
        left: images that can still be queried.
        newer: labels that came after the latest network's training began.
        classes: name → images that have it.
        rare: classes that networks are trained on less than half as often as on all classes on
            average, the rarest first.
        people: name → answers of theirs that hold.
        curve: of at most MAX_CURVE_POINTS networks a batch of labels apart, evenly from the first
            on, and of the present one, on all hold-out answers there are.
        baseline: what the accuracy must exceed for anything to be learnt; None for fewer than
            ENOUGH hold-out answers.
        seconds: a label takes, the median of the latest; None before the first.
        reached: whether the target is: the lower end of the accuracy's interval, on ENOUGH hold-out
        answers at least.
        to_confirm: where the accuracy is above the target but that is not certain yet, how many
            more hold-out answers make it so if the accuracy stays what it is; None otherwise.
        labels_left: until the accuracy is at the target; None as long as it is too early to say,
        and when it is above.
        agreement: of the latest STOP_PAIRS networks with the one a batch of labels before each,
            Cohen's kappa on images drawn at random.
        stop: whether it looks time to stop.
        alpha: Krippendorff's, where several people label each image; None where nothing
        can be said.
        trouble: why no network could be trained; empty where one was.
    """

    images: int
    unreadable: int
    prelabelled: int
    annotations: int
    trained_on: int
    held_out: int
    declined: int
    disputed: int
    flagged: int
    left: int
    newer: int
    classes: dict[str, int]
    rare: list[str]
    people: dict[str, int]
    curve: list[Accuracy]
    baseline: Baseline | None
    seconds: float | None
    target: float
    reached: bool
    to_confirm: int | None
    labels_left: LabelsLeft | None
    agreement: list[float]
    stop: bool
    alpha: float | None
    error: str


def progress(state: State) -> Progress:
    """Return the progress of a session."""
    labels = state.labels
    annotated, disputed = state.annotated, state.disputed
    counts = np.bincount(labels[labels >= 0], minlength=len(state.classes)).tolist()
    truth = hold_out_labels(state)
    apart = spaced(state.models, state.settings.batch)
    models = [apart[place] for place in evenly_spaced(len(apart), MAX_CURVE_POINTS)]
    present = [model for model in state.models[-1:] if model is not apart[-1]]
    points = curve([*models, *present], truth)
    latest = apart[-STOP_PAIRS - 1 :]
    agreement = [
        kappa(a.predicted, b.predicted)
        for a, b in pairwise(latest)
        if np.array_equal(a.watched, b.watched)
    ]
    target, enough = state.settings.target, bool(points) and points[-1].of >= ENOUGH
    reached = enough and points[-1].low >= target
    missing = (
        answers_to_confirm(points[-1].value, points[-1].of, target)
        if points and not reached
        else None
    )
    steady = (
        len(agreement) == STOP_PAIRS
        and min(agreement) >= STOP_KAPPA
        and len(latest[-1].watched) >= ENOUGH
    )
    annotations = int(annotated.sum())
    return Progress(
        images=len(labels),
        unreadable=len(state.unreadable),
        prelabelled=int((state.prelabelled >= 0).sum()),
        annotations=annotations,
        trained_on=int(state.trained_on.sum()),
        held_out=int((annotated & state.hold_out).sum()),
        declined=int((labels == DECLINED).sum() - (labels[disputed] == DECLINED).sum()),
        disputed=len(disputed),
        flagged=len(state.flags),
        left=state.left,
        newer=max(0, annotations - state.models[-1].annotations) if state.models else 0,
        classes=dict(zip(state.classes, counts, strict=True)),
        rare=rare_classes(state),
        people=dict(Counter(person for votes in state.votes.values() for person in votes)),
        curve=points,
        baseline=baseline(state, truth, points[-1]) if enough else None,
        seconds=float(np.median(state.seconds)) if state.seconds else None,
        target=target,
        reached=reached,
        to_confirm=missing,
        labels_left=None if reached or missing is not None else labels_left(models, truth, target),
        agreement=agreement,
        stop=steady and enough,
        alpha=(
            alpha([list(votes.values()) for votes in state.votes.values()])
            if state.settings.votes > 1
            else None
        ),
        error=state.error,
    )


def spaced(models: Sequence[Model], batch: int) -> list[Model]:
    """Return the first network, and each that follows the one before by a batch of labels.

    A network may follow each answer. Those of neighbouring answers always agree, and their errors
    say no more of the learning curve than one of them does.

    Args:
        models: all networks, the latest last.
        batch: labels between two of them, at least.
    """
    apart: list[Model] = []
    for model in models:
        if not apart or model.annotations - apart[-1].annotations >= batch:
            apart.append(model)
    return apart


def hold_out_labels(state: State) -> Int64[np.ndarray, "n"]:
    """Return the label of each answered hold-out image; UNKNOWN for all other images."""
    return np.where(state.hold_out & (state.labels >= 0), state.labels, UNKNOWN)


def curve(models: Sequence[Model], truth: Int64[np.ndarray, "n"]) -> list[Accuracy]:
    """Return the accuracy of each network on all hold-out answers that there are now.

    Answers that came after a network count too: it was never trained on them.
    """
    points = []
    for model in models:
        right = judged(model, truth)
        if len(right):
            low, high = wilson(int(right.sum()), len(right))
            points.append(
                Accuracy(
                    model.id,
                    model.annotations,
                    int(right.sum()),
                    len(right),
                    float(right.mean()),
                    low,
                    high,
                )
            )
    return points


def baseline(state: State, truth: Int64[np.ndarray, "n"], accuracy: Accuracy) -> Baseline:
    """Return what always predicting the commonest class of the hold-out reaches.

    Args:
        state: of the session.
        truth: (n,) labels of the hold-out, UNKNOWN for other images.
        accuracy: of the latest network.
    """
    counts = np.bincount(truth[truth >= 0], minlength=len(state.classes))
    share = float(counts.max() / counts.sum())
    return Baseline(state.classes[counts.argmax()], share, accuracy.low > share)


def rare_classes(state: State) -> list[str]:
    """Return the classes with less than half of the average class's labels to train on."""
    labels = state.labels[state.trained_on]
    counts = np.bincount(labels[labels >= 0], minlength=len(state.classes))
    rare = [label for label in counts.argsort(kind="stable") if 2 * counts[label] < counts.mean()]
    return [state.classes[label] for label in rare]


def judged(model: Model, truth: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "h"]:
    """Return for each hold-out answer among the watched images whether the network predicts it.

    Args:
        model: the network.
        truth: (n,) labels of the hold-out, UNKNOWN for other images.
    """
    answers = truth[model.watched]
    right: Bool[np.ndarray, h] = (model.predicted == answers)[answers >= 0]
    return right


def labels_left(
    models: Sequence[Model], truth: Int64[np.ndarray, "n"], target: float
) -> LabelsLeft | None:
    """Estimate the labels left by a power law through the errors of all networks.

    error = a · n^−b. For the interval the hold-out images are drawn again with replacement, the
    same ones for all networks.

    Args:
        models: the networks.
        truth: (n,) labels of the hold-out, UNKNOWN for other images.
        target: the accuracy to reach.

    Returns:
        None as long as there are too few networks or answers.
    """
    latest = (
        [model for model in models if len(model.watched) == len(models[-1].watched)]
        if models
        else []
    )
    sizes = np.array([model.annotations for model in latest], dtype=float)
    if len(set(sizes.tolist())) < MIN_CURVE_NETWORKS:
        return None
    right = np.array([judged(model, truth) for model in latest])
    h = right.shape[1]
    if h < ENOUGH:
        return None
    rng = np.random.default_rng(len(sizes))
    draws = np.concatenate(
        [np.ones((1, h)), rng.multinomial(h, np.full(h, 1 / h), BOOTSTRAP_SAMPLES)]
    )  # how often each is drawn
    wrong = draws @ (~right).T.astype(float)
    needed = reached_at(sizes, (wrong + 0.5) / (h + 1), 1 - target)
    left = np.maximum(needed - sizes[-1], 1)  # none is left only when the target is reached
    low, high = np.quantile(left[1:], [0.1, 0.9], method="nearest")
    return LabelsLeft(float(np.ceil(left[0])), float(np.floor(low)), float(np.ceil(high)))


def reached_at(
    sizes: Float64[np.ndarray, "m"], errors: Float64[np.ndarray, "r m"], error: float
) -> Float64[np.ndarray, "r"]:
    """Return the number of labels n at which error = a · n^−b has come down to an error.

    The line is that of least squares through the logarithms. It is inf where the line does not
    fall, and beyond a hundred times the largest size, of which no such line can tell anything.

    Args:
        sizes: (m,) labels of each network.
        errors: (r, m) errors of each network, in r resamples.
        error: the error to reach.
    """
    x, y = np.log(sizes), np.log(errors)
    weights = sizes / sizes.sum()  # networks of more answers tell more about what comes
    x0, y0 = weights @ x, y @ weights
    slope = ((y - y0[:, None]) * (x - x0)) @ weights / (weights @ (x - x0) ** 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        n = np.exp(x0 + (np.log(error) - y0) / slope)
    known: Float64[np.ndarray, r] = np.where((slope < 0) & (n < 100 * sizes.max()), n, np.inf)
    return known
