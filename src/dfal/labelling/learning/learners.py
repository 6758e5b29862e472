"""What a session can learn from, and which of it predicts the labels best."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Int64

from dfal import backbones
from dfal.backbones.base import Backbone
from dfal.backbones.with_pixels import BackboneWithPixels, SmallImage, with_pixels
from dfal.labelling.learning.comparison import MAX_UNLABELLED, Validation, most_accurate
from dfal.labelling.learning.every_image import EveryImageLearner
from dfal.labelling.learning.extraction import ExtractionProgress, FeatureExtraction, open_features
from dfal.labelling.learning.feature_learner import (
    CachedFeatures,
    FeatureLearner,
    FeatureSource,
    JoinedFeatures,
    PixelFeatures,
)
from dfal.labelling.learning.learner import Learner, PixelLearner
from dfal.labelling.photos import Photos
from dfal.labelling.settings import AUTO, EVERY_IMAGE, NETWORKS_ON_PIXELS, NO_BACKBONE, PIXELS
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.query import UNKNOWN

MIN_TRIAL_LABELS = 20
"""Labels from which networks on pixels are compared, too: they need some to learn anything."""
REFRESH_SECONDS = 0.5
"""Seconds between two looks for new features: with 100,000 images each takes a while."""
TRIAL_GROWTH = 1.5
"""Factor of the labels after which it is compared again."""


@dataclass(frozen=True)
class Choice:
    """What is to be learnt from.

    Attributes:
        learner: that does.
        why: a sentence.
    """

    learner: Learner
    why: str


class Learners:
    """All that a session can learn from, as its setting `backbone` says.

    With "auto" that is a pretrained backbone where one is installed, or the pixels; a network on
    pixels trained from scratch; and one that is trained on the images without a label, too. With
    "none" it is the same without a backbone. The labels alone are learnt from where the settings
    say so.

    Args:
        session: whose settings hold.
        photos: its images.

    Attributes:
        on_features, on_pixels: what learns from features, and trains networks on pixels.
        on_every_image: what trains networks on unlabelled images, too; None where nothing does.
        extraction: of the pretrained backbone's features; None where there is none.
        backbone: whose features are computed; empty where none are.
        current: what is learnt from now.
    """

    def __init__(self, session: Session, photos: Photos):
        settings = session.settings
        self._session, self._photos = session, photos
        self.extraction: FeatureExtraction | None = None
        self.backbone = ""
        self._extracted: CachedFeatures | None = None
        self.on_pixels = PixelLearner(session, photos)
        self.on_features: list[FeatureLearner] = []
        self.on_every_image: EveryImageLearner | None = None
        if settings.learns_from_every_image:
            self.on_every_image = EveryImageLearner(session, photos)
        self._folds: dict[str, Validation] = {}
        self._tried = 0
        self._progress, self._refreshed = ExtractionProgress(0, 0), -inf
        h, w, c = photos.folder.shape
        found, self._note = open_backbones(settings.first_backbone, (c, h, w))
        for backbone in found:
            source = self._source(backbone)
            self.on_features.append(FeatureLearner(session, photos.folder, backbone, source))
        self._is_automatic = settings.backbone == AUTO or settings.first_backbone != (
            settings.backbone
        )
        self._has_failed = False
        self.current: Learner = self._all()[0]
        chosen = session.state.learner
        if chosen is not None and chosen.backbone in NETWORKS_ON_PIXELS:
            # Until there is a new comparison, the one of the process before holds.
            self.current = self._by_name().get(chosen.backbone, self.current)

    def _source(self, backbone: Backbone) -> FeatureSource:
        """Return where the features of a backbone come from. Those of one are computed once."""
        folder = self._photos.folder
        if backbone.name == PIXELS:
            return PixelFeatures(folder, backbone.network)
        if isinstance(backbone, BackboneWithPixels):
            h, w, c = folder.shape
            small = SmallImage((c, h, w), backbone.image[0])
            return JoinedFeatures(self._source(backbone.alone), PixelFeatures(folder, small))
        if self._extracted is None:
            cache = open_features(folder, backbone)
            device = self._session.settings.device
            self.extraction = FeatureExtraction(
                folder, backbone, cache, device=device, on_error=self._fail
            )
            self.backbone, self._extracted = backbone.name, CachedFeatures(cache)
        return self._extracted

    def _fail(self, sentence: str) -> None:
        """Show why features cannot be computed, and learn from something else meanwhile."""
        self._session.model_outputs.add_error(sentence)
        self._has_failed = True

    def _all(self) -> list[Learner]:
        """Return what can be learnt from, the likeliest first."""
        if self.on_features and not self._is_automatic:
            return [*self.on_features]
        return [*self.on_features, self.on_pixels, *self._slow()]

    def _slow(self) -> list[Learner]:
        return [] if self.on_every_image is None else [self.on_every_image]

    def _by_name(self) -> dict[str, Learner]:
        return {learner.name: learner for learner in self._all()}

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
            self._fall_back()
        if self.extraction is not None:
            self._progress = self.extraction.progress()

    def _fall_back(self) -> None:
        """Learn from the pixels, or from whatever is there until they are."""
        if all(learner.name != PIXELS for learner in self.on_features):
            folder = self._photos.folder
            h, w, c = folder.shape
            pixels = backbones.load(PIXELS, (c, h, w))
            source = self._source(pixels)
            self.on_features.append(FeatureLearner(self._session, folder, pixels, source))
        self.current = next(learner for learner in self._all() if learner.is_ready)

    def prefer(self, images: Iterable[int]) -> None:
        """Compute the features of these images next."""
        if self.extraction is not None:
            self.extraction.prefer(images)

    # The choice.

    def choose(self, labels: Int64[np.ndarray, "n"], classes: int) -> Choice:
        """Choose what predicts the labels best.

        Args:
            labels: of all images, below 0 where none is to be learnt from.
            classes: how many there are.
        """
        if not self._is_automatic:
            return Choice(self.current, "as chosen with --backbone")
        validations = {
            learner.name: _left_out(learner, labels, classes)
            for learner in self.on_features
            if learner.is_ready
        }
        chosen = self._session.state.learner
        if self.current.name in NETWORKS_ON_PIXELS and not self._folds and chosen is not None:
            return Choice(self.current, chosen.why)
        if not validations:
            return Choice(self.current, "")
        best = most_accurate(self.current.name, validations, self._folds)
        if best in NETWORKS_ON_PIXELS:
            validations = self._folds
        else:
            networks = self._folds.keys() & NETWORKS_ON_PIXELS
            validations |= {name: self._folds[name] for name in sorted(networks)}
        learner = self._by_name()[best]
        sentence = _sentence(best, validations)
        if best == EVERY_IMAGE:
            sentence = _gain(validations, self._unlabelled())
        return Choice(learner, f"{sentence}. {self._note}" if self._note else sentence)

    def _unlabelled(self) -> int:
        """Return from how many images without a label networks are trained."""
        state = self._session.state
        is_taught = (state.labels == UNKNOWN) & ~state.hold_out & self._photos.ready()
        return int(is_taught.sum())

    def trial_due(self, state: State) -> bool:
        """Return whether networks on pixels are worth a comparison with the features now."""
        count = int((state.labels[state.trained_on] >= 0).sum())
        return (
            self._is_automatic
            and all(learner.is_ready for learner in self.on_features)
            and count >= max(MIN_TRIAL_LABELS, TRIAL_GROWTH * self._tried)
        )

    def begin_trial(self, labels: int) -> list[Learner]:
        """Return what is to be compared, the quickest first, on a number of labels.

        It is not compared again before there are more labels, whatever comes of it.
        """
        self._tried = labels
        return self._all()

    def abandon_trial(self) -> None:
        """Let it be compared as soon as there is time."""
        self._tried = self._folds[NO_BACKBONE].count if self._folds else 0

    def add_trial(self, folds: dict[str, Validation]) -> None:
        """Take over how well each learner predicts labels that it was not trained on, by name."""
        self._folds = folds


def open_backbones(
    name: str, image: tuple[int, int, int], size: int = 0
) -> tuple[list[Backbone], str]:
    """Return the backbones that are learnt from, and a note about them.

    Args:
        name: as in `Settings.backbone`.
        image: channels, height and width of the folder's small images.
        size: the side of the images that a pretrained network receives; 0 for its own.

    Raises:
        DfalError: for a backbone that cannot be loaded.
    """
    if name == NO_BACKBONE:
        return [], ""
    received = (3, size, size) if size else None
    if name != AUTO:
        return [backbones.load(name, image if name == PIXELS else received)], ""
    pretrained = backbones.automatic(received)
    if pretrained is None:
        return [backbones.load(PIXELS, image)], ""
    alone = pretrained.backbone
    both = [alone, with_pixels(alone)]
    # Grey images are digits, drawings or recordings more often than photographs.
    return both[::-1] if image[0] == 1 else both, pretrained.note


def _left_out(learner: FeatureLearner, labels: Int64[np.ndarray, "n"], classes: int) -> Validation:
    """Return how a label is predicted from all others, and how some unlabelled images are."""
    learned = learner.learn(labels, classes)
    left_out, step = learned.left_out, max(1, len(labels) // MAX_UNLABELLED)
    members = learner.members[: len(learned.posterior)]
    others = np.flatnonzero((labels[members] < 0) & (members % step == 0))
    images = np.concatenate([learner.members[left_out.images], members[others]])
    posterior = np.concatenate([left_out.posterior, learned.posterior[others]])
    return Validation.of(images, labels[images], posterior)


def _sentence(name: str, validations: dict[str, Validation]) -> str:
    def said(other: str) -> str:
        validation = validations[other]
        return f"{validation.right} of {validation.count}"

    if not validations[name].count:
        return "as long as there are too few labels to compare"
    others = [f"{_shown(other)} {said(other)}" for other in validations if other != name]
    text = f"{_shown(name)} predicts {said(name)} labels from the others"
    if not others:
        return text
    others.append("hard images, which are asked about most, count less")
    return f"{text}, {', '.join(others)}"


def _gain(validations: Mapping[str, Validation], unlabelled: int) -> str:
    """Return what the images without a label give, beside the best that does without them."""
    others = validations.keys() - {EVERY_IMAGE}
    second = max(sorted(others), key=lambda name: validations[name].right)
    now, before = validations[EVERY_IMAGE], validations[second]
    text = (
        f"the network learns from {unlabelled:,} images without a label, too: {now.right} of"
        f" {now.count} labels are predicted in cross-validation, {before.right} without them"
        f" ({_shown(second)})"
    )
    return text if now.right > before.right else f"{text}, which does not speak against it"


def _shown(name: str) -> str:
    names = {NO_BACKBONE: "a network from scratch", EVERY_IMAGE: "one from unlabelled images, too,"}
    return names.get(name, name)
