"""What a session can learn from, and which of it predicts the labels best."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from jaxtyping import Bool, Int64

from dfal import backbones
from dfal.backbones.base import Backbone
from dfal.labelling.learning.extraction import ExtractionProgress, FeatureExtraction, open_features
from dfal.labelling.learning.feature_learner import CachedFeatures, FeatureLearner, PixelFeatures
from dfal.labelling.learning.learner import Learner, PixelLearner
from dfal.labelling.photos import Photos
from dfal.labelling.settings import AUTO, NO_BACKBONE, PIXELS
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State

MIN_TRIAL_LABELS = 30
"""Labels from which a network on pixels is compared, too: it needs some to learn anything."""
REFRESH_SECONDS = 0.5
"""Seconds between two looks for new features: with 100,000 images each takes a while."""
TRIAL_GROWTH = 1.5
"""Factor of the labels after which it is compared again."""


@dataclass(frozen=True)
class Validation:
    """How labelled images are predicted by networks that were not trained on them.

    Attributes:
        images: their indices, ascending.
        is_right: whether the label is predicted.
    """

    images: Int64[np.ndarray, "l"]
    is_right: Bool[np.ndarray, "l"]


@dataclass(frozen=True)
class Choice:
    """What is learnt from.

    Attributes:
        name: of the backbone; "none" for a network on pixels.
        why: a sentence.
    """

    name: str
    why: str


class Learners:
    """All that a session can learn from, as its setting `backbone` says.

    With "auto" that is a pretrained backbone where one is installed, the pixels, and a network on
    pixels trained from scratch.

    Args:
        session: whose settings hold.
        photos: its images.

    Attributes:
        on_features, on_pixels: what learns from features, and trains networks on pixels.
        extraction: of the pretrained backbone's features; None where there is none.
        current: what is learnt from now.
    """

    def __init__(self, session: Session, photos: Photos):
        settings = session.settings
        self._session, self._photos = session, photos
        self.extraction: FeatureExtraction | None = None
        self.on_pixels = PixelLearner(session, photos)
        self.on_features: list[FeatureLearner] = []
        self._folds: dict[str, Validation] = {}
        self._progress, self._refreshed = ExtractionProgress(0, 0), -inf
        h, w, c = photos.folder.shape
        found, self._note = open_backbones(settings.backbone, (c, h, w))
        for backbone in found:
            self.on_features.append(self._feature_learner(backbone))
        self._is_automatic = settings.backbone == AUTO
        self._has_failed = False
        self.current: Learner = self._all()[0]

    def _feature_learner(self, backbone: Backbone) -> FeatureLearner:
        folder = self._photos.folder
        if backbone.name == PIXELS:
            source = PixelFeatures(folder, backbone)
            return FeatureLearner(self._session, folder, backbone, source)
        cache = open_features(folder, backbone)
        self.extraction = FeatureExtraction(
            folder,
            backbone,
            cache,
            device=self._session.settings.device,
            on_error=self._fail,
        )
        return FeatureLearner(self._session, folder, backbone, CachedFeatures(cache))

    def _fail(self, sentence: str) -> None:
        """Show why features cannot be computed, and learn from something else meanwhile."""
        self._session.model_outputs.add_error(sentence)
        self._has_failed = True

    def _all(self) -> list[Learner]:
        """Return what can be learnt from, the likeliest first."""
        is_included = self._is_automatic or not self.on_features
        return [*self.on_features, *([self.on_pixels] if is_included else [])]

    @property
    def backbone(self) -> str:
        """Return the backbone whose features are computed; empty where none are."""
        return next((f.name for f in self.on_features if f.name != PIXELS), "")

    def progress(self) -> ExtractionProgress:
        """Return how many images have features, as of the latest `refresh`."""
        return self._progress

    def refresh(self, state: State) -> None:
        """Take over the features that are new, not more often than every REFRESH_SECONDS."""
        if time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        for learner in self.on_features:
            learner.refresh(state)
        if self._has_failed and self._is_automatic and not self.current.is_ready:
            self.current = next(learner for learner in self._all() if learner.is_ready)
        if self.extraction is not None:
            self._progress = self.extraction.progress()

    def prefer(self, images: Iterable[int]) -> None:
        """Compute the features of these images next."""
        if self.extraction is not None:
            self.extraction.prefer(images)

    # The choice.

    def choose(self, labels: Int64[np.ndarray, "n"], classes: int) -> Choice:
        """Choose what predicts the labels best, and let it be the current learner.

        Args:
            labels: of all images, below 0 where none is to be learnt from.
            classes: how many there are.
        """
        if not self._is_automatic:
            return Choice(self.current.name, "as chosen with --backbone")
        validations = {
            learner.name: _left_out(learner, labels, classes)
            for learner in self.on_features
            if learner.is_ready
        }
        candidates: list[Learner] = [f for f in self.on_features if f.name in validations]
        if not candidates:
            return Choice(self.current.name, "")
        best = self.current if self.current in candidates else candidates[0]
        for learner in candidates:
            if is_better(validations[learner.name], validations[best.name]):
                best = learner
        if self._folds:
            # A network from scratch cannot be trained once for each label left out, so that it and
            # the features are compared on the same folds.
            scratch, other = self._folds[NO_BACKBONE], self._folds[best.name]
            is_kept = self.current is self.on_pixels and not is_better(other, scratch)
            if is_kept or is_better(scratch, other):
                best = self.on_pixels
                validations = {NO_BACKBONE: scratch, **self._folds}
            else:
                validations[NO_BACKBONE] = scratch
        self.current = best
        sentence = _sentence(best.name, validations)
        return Choice(best.name, f"{sentence}. {self._note}" if self._note else sentence)

    def trial_due(self, state: State) -> bool:
        """Return whether a network on pixels is worth a comparison with the features now."""
        count = int((state.labels[state.trained_on] >= 0).sum())
        before = len(self._folds[NO_BACKBONE].images) if self._folds else 0
        return (
            self._is_automatic
            and all(learner.is_ready for learner in self.on_features)
            and count >= max(MIN_TRIAL_LABELS, TRIAL_GROWTH * before)
        )

    def add_trial(self, folds: dict[str, Validation]) -> None:
        """Take over how well each learner predicts labels that it was not trained on, by name."""
        self._folds = folds


def open_backbones(name: str, image: tuple[int, int, int]) -> tuple[list[Backbone], str]:
    """Return the backbones that are learnt from, and a note about them.

    Args:
        name: as in `Settings.backbone`.
        image: channels, height and width of the folder's small images.

    Raises:
        DfalError: for a backbone that cannot be loaded.
    """
    if name == NO_BACKBONE:
        return [], ""
    if name != AUTO:
        return [backbones.load(name, image if name == PIXELS else None)], ""
    pixels = backbones.load(PIXELS, image)
    pretrained = backbones.automatic()
    if pretrained is None:
        return [pixels], ""
    return [pretrained.backbone, pixels], pretrained.note


def _left_out(learner: FeatureLearner, labels: Int64[np.ndarray, "n"], classes: int) -> Validation:
    learned = learner.learn(labels, classes)
    images = learner.members[learned.left_out.images]
    order = np.argsort(images)
    is_right = learned.left_out.labels == learned.left_out.predicted
    return Validation(images[order], is_right[order])


def is_better(new: Validation, old: Validation) -> bool:
    """Return whether a validation is better than another beyond doubt, on the images of both."""
    images = np.intersect1d(new.images, old.images)
    a = new.is_right[np.searchsorted(new.images, images)]
    b = old.is_right[np.searchsorted(old.images, images)]
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    return wins - losses > 1 + sqrt(wins + losses)


def _sentence(name: str, validations: dict[str, Validation]) -> str:
    def said(other: str) -> str:
        validation = validations[other]
        return f"{int(validation.is_right.sum())} of {len(validation.images)}"

    if not len(validations[name].images):
        return "as long as there are too few labels to compare"
    others = [f"{_shown(other)} {said(other)}" for other in validations if other != name]
    text = f"{_shown(name)} predicts {said(name)} labels from the others"
    return f"{text}, {', '.join(others)}" if others else text


def _shown(name: str) -> str:
    return "a network from scratch" if name == NO_BACKBONE else name
