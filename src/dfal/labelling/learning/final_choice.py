"""Choose how a final model is trained, by labels that networks were not trained on.

The hold-out has no part in it: it measures what was chosen.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Bool, Float64, Int64
from torch import nn

from dfal.labelling.learning.final_data import FOLDS, Known, Proceed
from dfal.labelling.learning.final_learners import FinalLearner, Step
from dfal.labelling.learning.final_settings import FinalSettings
from dfal.labelling.settings import AUTO
from dfal.models import calibration
from dfal.nn import AUGMENTATIONS
from dfal.stats.agreement import ENOUGH

MIN_LABELS = 80
"""Labels from which a part of them can tell whether thorough training is better."""
MAX_CROSS_VALIDATED = 2000
"""Labels up to which each is predicted by a network trained on others; of more, one part is."""
FIRST_STEP, TIMED_STEPS = 2, 4
"""Steps that are not timed, and that are, to estimate how long a training takes."""
PHOTOGRAPHS, NO_AUGMENTATION = "photographs", "none"


@dataclass(frozen=True)
class Validation:
    """Labelled images as networks predict them that were not trained on them.

    Attributes:
        way: how the networks were trained, in words.
        places: of the images among those that are trained on.
        logits: of the images.
        labels: their classes.
    """

    way: str
    places: Int64[np.ndarray, "v"]
    logits: Float64[np.ndarray, "v c"]
    labels: Int64[np.ndarray, "v"]

    @property
    def is_right(self) -> Bool[np.ndarray, "v"]:
        """Return which images are predicted as they are labelled."""
        right: Bool[np.ndarray, v] = self.logits.argmax(1) == self.labels
        return right

    @property
    def accuracy(self) -> float:
        """Return the fraction that is right; 0 without images."""
        return float(self.is_right.mean()) if len(self.labels) else 0.0

    def among(self, places: Int64[np.ndarray, "m"]) -> "Validation":
        """Return the part on some of the images."""
        part = np.isin(self.places, places)
        return Validation(self.way, self.places[part], self.logits[part], self.labels[part])

    def temperature(self) -> float | None:
        """Return what calibrates the confidences; None for too few images."""
        if len(self.labels) < ENOUGH:
            return None
        return calibration.temperature(self.logits, self.labels)


@dataclass(frozen=True)
class Chosen:
    """The network that was chosen and trained on all labels.

    Attributes:
        learner: that trained it.
        network: takes images.
        way: how it was trained, in words.
        why: how it was chosen, one sentence each.
        augmentation: a name of `AUGMENTATIONS`.
        validations: that chose.
        temperature: that calibrates its confidences; None for too few labels.
    """

    learner: FinalLearner
    network: nn.Module
    way: str
    why: tuple[str, ...]
    augmentation: str
    validations: tuple[Validation, ...]
    temperature: float | None


class _TooLongError(Exception):
    """A training would take too long."""

    def __init__(self, minutes: float):
        super().__init__(
            f"training the whole network would take about {minutes:.0f} minutes here; --minutes"
            f" {minutes * 1.2:.0f} or a GPU allows it"
        )


def choose(
    learners: Sequence[FinalLearner], known: Known, settings: FinalSettings, proceed: Proceed
) -> Chosen:
    """Choose among learners and the two ways of training, and train on all labels.

    Args:
        learners: the first of those that are equally good is chosen.
        known: the labels.
        settings: of the training.
        proceed: see `Proceed`.
    """
    folds = known.folds(settings.seed)
    predicted = range(FOLDS) if len(folds) <= MAX_CROSS_VALIDATED else range(1)
    compared: list[tuple[FinalLearner, Validation]] = []
    why: list[str] = []
    for learner in learners:
        minutes = settings.minutes if learner.is_slow else None
        try:
            step = _Timed(proceed, f"comparing {learner.quick_name}", minutes, len(predicted) + 1)
            compared.append((learner, _cross_validate(learner, known, folds, predicted, step)))
        except _TooLongError as error:
            why.append(f"{learner.quick_name} was not tried: {error}")
    learner, quick = max(compared, key=lambda pair: pair[1].accuracy)
    validations = [validation for _, validation in compared]
    if len(compared) > 1:
        right = ", ".join(f"{each.way} {each.accuracy:.1%}" for each in validations)
        why.append(
            f"of {len(quick.labels):,} labels, predicted by networks trained on the others: {right}"
        )
    thorough, augmentation, reason = _try_thoroughly(
        learner, known, folds, quick, settings=settings, proceed=proceed
    )
    why.append(reason)
    every = np.arange(len(known.train))
    if thorough is None or not _is_better(thorough, quick.among(thorough.places)):
        step = _Timed(proceed, f"training {learner.quick_name}, on all labels")
        network = learner.train_quickly(every, step)
        tried = (*validations, *([thorough] if thorough else []))
        way, temperature = learner.quick_name, quick.temperature()
        return Chosen(learner, network, way, tuple(why), learner.augmentation, tried, temperature)
    step = _Timed(proceed, f"training {learner.thorough_name}, on all labels")
    network = learner.train_thoroughly(every, AUGMENTATIONS[augmentation], step)
    return Chosen(
        learner,
        network,
        learner.thorough_name,
        tuple(why),
        augmentation,
        (*validations, thorough),
        thorough.temperature(),
    )


def _cross_validate(
    learner: FinalLearner,
    known: Known,
    folds: Int64[np.ndarray, "n"],
    predicted: Sequence[int],
    step: Step,
) -> Validation:
    """Predict labelled images by quick networks that were trained on the other folds."""
    places, logits = [], []
    for fold in predicted:
        inside = np.flatnonzero(folds == fold)
        if len(inside) and len(inside) < len(folds):
            network = learner.train_quickly(np.flatnonzero(folds != fold), step)
            places.append(inside)
            logits.append(learner.logits(network, inside).double().numpy())
    order = np.concatenate(places)
    return Validation(learner.quick_name, order, np.concatenate(logits), known.train_labels[order])


def _try_thoroughly(
    learner: FinalLearner,
    known: Known,
    folds: Int64[np.ndarray, "n"],
    quick: Validation,
    *,
    settings: FinalSettings,
    proceed: Proceed,
) -> tuple[Validation | None, str, str]:
    """Train thoroughly without the first fold, and predict it.

    Returns:
        What it predicts, or None where it was not tried; the augmentation; and why.
    """
    if settings.fine_tune is False:
        return None, NO_AUGMENTATION, f"{learner.quick_name}, since --no-fine-tune says so"
    if not learner.can_train_thoroughly:
        return None, NO_AUGMENTATION, f"{learner.quick_name}: there is nothing more to train"
    inside, outside = np.flatnonzero(folds == 0), np.flatnonzero(folds != 0)
    if (len(folds) < MIN_LABELS and not settings.fine_tune) or not len(inside):
        return (
            None,
            NO_AUGMENTATION,
            f"{learner.quick_name}: {len(folds):,} labels are too few to tell whether training the"
            f" whole network is better; {MIN_LABELS} are enough, or say --fine-tune",
        )
    augmentation = settings.augment
    reason = ""
    if augmentation == AUTO:
        augmentation, reason = _suited_augmentation(learner, inside, outside, known)
    limit = None if settings.fine_tune else settings.minutes
    factor = 1 + len(folds) / len(outside)
    step = _Timed(proceed, f"training {learner.thorough_name}, to validate it", limit, factor)
    try:
        network = learner.train_thoroughly(outside, AUGMENTATIONS[augmentation], step)
    except _TooLongError as error:
        return (
            None,
            NO_AUGMENTATION,
            f"{learner.quick_name}: {error}",
        )
    logits = learner.logits(network, inside).double().numpy()
    thorough = Validation(learner.thorough_name, inside, logits, known.train_labels[inside])
    before = quick.among(inside)
    chosen = thorough if _is_better(thorough, before) else before
    return (
        thorough,
        augmentation,
        f"{chosen.way}: of {len(inside):,} labels that it was not trained on, {thorough.way}"
        f" predicts {thorough.accuracy:.1%}, {before.way} {before.accuracy:.1%}{reason}",
    )


def _is_better(thorough: Validation, quick: Validation) -> bool:
    """Return whether thorough training is right more often on the same images."""
    return thorough.accuracy > quick.accuracy


def _suited_augmentation(
    learner: FinalLearner,
    inside: Int64[np.ndarray, "v"],
    outside: Int64[np.ndarray, "m"],
    known: Known,
) -> tuple[str, str]:
    """Return the augmentation for images that may or may not be mirrored, and why.

    A network that has seen no mirrored image predicts labels of mirrored images that it was not
    trained on: where it loses no more than chance explains, their classes do not depend on left and
    right.
    """
    network = learner.train_quickly(outside)
    labels = known.train_labels[inside]
    plain = learner.logits(network, inside).argmax(1).numpy() == labels
    mirrored = learner.logits(network, inside, mirrored=True).argmax(1).numpy() == labels
    lost, gained = int((plain & ~mirrored).sum()), int((~plain & mirrored).sum())
    if lost - gained > sqrt(lost + gained):
        return NO_AUGMENTATION, (
            f"; images are not mirrored, since {mirrored.mean():.0%} of mirrored ones are"
            f" recognised and {plain.mean():.0%} of the others"
        )
    return PHOTOGRAPHS, ""


class _Timed:
    """Counts the steps of a training, and ends it where it would take too long.

    Args:
        proceed: see `Proceed`.
        activity: what is done, in words.
        minutes: that it may take; None for any time.
        factor: of the time, with what comes after this training.
    """

    def __init__(
        self,
        proceed: Proceed,
        activity: str,
        minutes: float | None = None,
        factor: float = 1.0,
    ):
        self._proceed, self._activity = proceed, activity
        self._minutes, self._factor = minutes, factor
        self._began = 0.0

    def __call__(self, step: int, steps: int) -> None:
        """Say that a step begins.

        Raises:
            _TooLongError: where it would take too long.
        """
        self._proceed(self._activity, step, steps)
        if step == FIRST_STEP:
            self._began = time.monotonic()
        if step == FIRST_STEP + TIMED_STEPS and self._minutes is not None:
            minutes = (time.monotonic() - self._began) / TIMED_STEPS * steps * self._factor / 60
            if minutes > self._minutes:
                raise _TooLongError(minutes)
