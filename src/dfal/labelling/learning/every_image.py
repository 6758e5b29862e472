"""Train networks on pixels on the images without a label, too, while nobody waits for it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Int64
from torch import Tensor, nn

from dfal.labelling.learning.learner import PixelLearner, ignore, teaching
from dfal.labelling.photos import Photos
from dfal.labelling.settings import EVERY_IMAGE, UNLABELLED_TRAINING
from dfal.labelling.store.session import Session
from dfal.nn.augmentation_choice import suited_augmentation
from dfal.nn.training import Proceed, Training, fit
from dfal.pool import Pool
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed

MAX_SECONDS = 90.0
"""CPU seconds that a training may take; it is cut to fewer steps where each takes long."""
MIN_STEPS = 300
"""Steps that are worth a training."""
UNTIMED_STEPS, TIMED_STEPS = 2, 4
"""Steps that are not timed, and that are, to estimate the seconds of one."""


@dataclass(frozen=True)
class _Weights:
    """Weights that the next training starts with.

    Attributes:
        classes: how many the network tells apart.
        labels: of all images, that it was trained on.
        state: the network's `state_dict`.
    """

    classes: int
    labels: Int64[Tensor, "n"]
    state: Mapping[str, Tensor]

    def suit(self, classes: int, labels: Int64[Tensor, "n"]) -> bool:
        """Return whether a training on these labels can start here.

        A class without labels was learnt as another one: with its first label, training starts from
        scratch. It does, too, where a label is left out that these weights have learnt.
        """
        is_left_out = (self.labels >= 0) & (labels == UNKNOWN)
        known, now = (set(each[each >= 0].tolist()) for each in (self.labels, labels))
        return self.classes == classes and now <= known and not is_left_out.any()


class EveryImageLearner(PixelLearner):
    """Trains networks on the labels and the pixels of all images that are not in the hold-out.

    A training starts from the network before, and that of a fold from the network of the same fold.

    Args:
        session: whose settings hold.
        photos: its images.
    """

    name = EVERY_IMAGE
    is_slow = True

    def __init__(self, session: Session, photos: Photos):
        super().__init__(session, photos)
        self._training: Training | None = None
        self._weights: dict[int | None, _Weights] = {}

    def is_affordable(self, pool: Pool, classes: int, seed: int, proceed: Proceed = ignore) -> bool:
        """Return whether there is time for trainings that are worth it.

        Args:
            pool: of `images()`.
            classes: how many a network tells apart.
            seed: of the trainings by which an augmentation is chosen.
            proceed: called before each of their steps; what it raises ends them.
        """
        return self._prepared(pool, classes, seed, proceed).steps >= MIN_STEPS

    def _prepared(self, pool: Pool, classes: int, seed: int, proceed: Proceed) -> Training:
        """Return how networks are trained: with what augmentation, in how many steps."""
        if self._training is None:
            augment = self._session.settings.training.augment
            if augment == "none":
                augment = self._suited(pool, classes, seed, proceed)
            training = replace(UNLABELLED_TRAINING, augment=augment)
            affordable = max(1, int(MAX_SECONDS / self._step_seconds(pool, classes, training)))
            self._training = replace(
                training,
                steps=min(training.steps, affordable),
                warm_steps=min(training.warm_steps, affordable),
            )
        return self._training

    def _suited(self, pool: Pool, classes: int, seed: int, proceed: Proceed) -> str:
        """Return the augmentation that suits the labels."""
        data = pool.labelled_data(self._session.settings.device)
        make, train = partial(self._new, classes), partial(fit, proceed=proceed)
        purpose = derive_seed(seed, 0, "augment")
        return suited_augmentation(train, make, data, UNLABELLED_TRAINING, purpose)

    def _step_seconds(self, pool: Pool, classes: int, training: Training) -> float:
        """Return about how many CPU seconds a step takes here."""
        began: list[float] = []
        few = replace(training, steps=UNTIMED_STEPS + TIMED_STEPS)
        self._train(pool, classes, few, proceed=lambda *_: began.append(time.process_time()))
        timed = began[UNTIMED_STEPS:]
        return max(1e-6, (timed[-1] - timed[0]) / (len(timed) - 1))

    def fit(
        self,
        pool: Pool,
        classes: int,
        seed: int,
        *,
        fold: int | None = None,
        proceed: Proceed = ignore,
    ) -> nn.Module:
        """Train a network on the labels and images of a pool, from that of the same fold."""
        training = self._prepared(pool, classes, seed, proceed)
        labels, before = pool.labels.clone(), self._weights.get(fold)
        start = before.state if before is not None and before.suit(classes, labels) else None
        model = self._train(pool, classes, training, seed=seed, start=start, proceed=proceed)
        self._weights[fold] = _Weights(classes, labels, model.state_dict())
        return model

    def _train(
        self,
        pool: Pool,
        classes: int,
        training: Training,
        *,
        seed: int = 0,
        start: Mapping[str, Tensor] | None = None,
        proceed: Proceed,
    ) -> nn.Module:
        data, images = pool.labelled_data(self._session.settings.device), teaching(pool)
        make = partial(self._new, classes)
        return fit(make, data, training, seed, unlabelled=images, start=start, proceed=proceed)
