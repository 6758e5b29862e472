"""Compare what can be learnt from, by labels that were not learnt from.

Labels say less than it seems: people are asked about images of which the present model is not
certain. On these it is wrong more often than elsewhere, so that others look better than they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Bool, Float, Int64

from dfal.labelling.settings import EVERY_IMAGE, NETWORKS_ON_PIXELS, NO_BACKBONE, PIXELS

STRATA = 3
"""Parts of the images, by how certain a model is."""
DOUBT = 2.0
"""Standard errors by which another one must be better."""
UNLABELLED_DOUBT = 1.0
"""The same where a network learns from every image: it and its rival are right on nearly all labels
early, and with 50 labels no difference is two standard errors."""
LABELS_ALONE = frozenset({PIXELS, NO_BACKBONE})
"""What has neither seen other images nor is trained on those without a label. A network that is
takes its place unless the labels speak against it: with 20 of digits or drawings it is far better,
and a comparison does not show it (`benchmarks/first_network.py`)."""
ENOUGH = 0.98
"""Share of the labels that are predicted from the others from which nobody looks for more, where
that takes minutes."""
ENOUGH_LABELS = 50
"""Labels from which that counts for what is in `LABELS_ALONE`: the first ones are those of typical
images, which are the easiest."""
MAX_UNLABELLED = 2000
"""Unlabelled images, about, that stand for all."""


@dataclass(frozen=True)
class Validation:
    """Images as they are predicted without their own labels.

    Attributes:
        images: their indices, ascending: those with a label, and others that stand for all.
        labels: the classes given; below 0 without one.
        predicted: the most probable classes.
        margin: their probabilities, less those of the second most probable.
    """

    images: Int64[np.ndarray, "n"]
    labels: Int64[np.ndarray, "n"]
    predicted: Int64[np.ndarray, "n"]
    margin: Float[np.ndarray, "n"]

    @classmethod
    def of(
        cls,
        images: Int64[np.ndarray, "n"],
        labels: Int64[np.ndarray, "n"],
        posterior: Float[np.ndarray, "n c"],
    ) -> "Validation":
        """Return the validation of images in any order, from their class probabilities."""
        order = np.argsort(images)
        posterior = posterior[order]
        largest = np.partition(posterior, -2, axis=1)[:, -2:]
        margin = largest[:, 1] - largest[:, 0]
        return cls(images[order], labels[order], posterior.argmax(axis=1), margin)

    @property
    def is_labelled(self) -> Bool[np.ndarray, "n"]:
        """Return which images have a label."""
        return self.labels >= 0

    @property
    def count(self) -> int:
        """Return how many images have a label."""
        return int(self.is_labelled.sum())

    @property
    def right(self) -> int:
        """Return how many labels are predicted."""
        return int((self.is_labelled & (self.predicted == self.labels)).sum())

    def among(self, images: Int64[np.ndarray, "m"]) -> "Validation":
        """Return the part on some of its images, ascending."""
        part = np.searchsorted(self.images, images)
        return Validation(images, self.labels[part], self.predicted[part], self.margin[part])


def is_better(new: Validation, old: Validation, doubt: float = DOUBT) -> bool:
    """Return whether a model predicts more images of the folder rightly than another one.

    Two models differ where they predict different classes. How often they do is counted on
    unlabelled images; which of them is right then, on labelled ones. Both for images of which the
    old one is certain and of which it is not apart, so that it does not matter how many of either
    people were asked about. The difference must be `doubt` times its standard error.
    """
    images = np.intersect1d(new.images, old.images)
    new, old = new.among(images), old.among(images)
    labelled, differs = old.is_labelled, new.predicted != old.predicted
    typical = np.ones(len(images), bool) if labelled.all() else ~labelled
    if not (differs & typical).any():
        return False
    ends = np.quantile(old.margin[differs & typical], np.arange(1, STRATA) / STRATA)
    stratum = np.searchsorted(ends, old.margin)
    gain = (new.predicted == new.labels).astype(float) - (old.predicted == old.labels)
    difference = variance = 0.0
    for number in range(STRATA):
        part = differs & (stratum == number)
        share = (part & typical).sum() / typical.sum()
        known = gain[part & labelled]
        # As if half a gain and half a loss were known already.
        difference += share * known.sum() / (len(known) + 1)
        variance += (share / (len(known) + 1)) ** 2 * (np.square(known).sum() + 0.5)
    return bool(difference > doubt * sqrt(variance))


def leaves_little(name: str, validation: Validation) -> bool:
    """Return whether a model predicts so many labels that no other one is worth minutes.

    Args:
        name: of what it learns from, as in `most_accurate`.
        validation: of the model.
    """
    least = ENOUGH_LABELS if name in LABELS_ALONE else 0
    return validation.count >= least and validation.right >= ENOUGH * validation.count


def most_accurate(
    current: str, left_out: Mapping[str, Validation], folds: Mapping[str, Validation]
) -> str:
    """Return what to learn from: what is learnt from now, unless another one is better.

    A network that learns from every image need not be better than what is in `LABELS_ALONE`, only
    not worse.

    Args:
        current: what is learnt from now.
        left_out: name of a backbone → how labels are predicted from all other labels; the likeliest
            first.
        folds: name of a backbone, or of one of NETWORKS_ON_PIXELS → how labels are predicted from
            those of the other folds; empty where there was no trial. A network cannot be trained
            once for each label that is left out, so that it is compared on folds.
    """
    best = current if current in left_out else next(iter(left_out))
    for name, validation in left_out.items():
        if is_better(validation, left_out[best]):
            best = name
    if best not in folds:
        return best
    for name, validation in folds.items():
        if name in NETWORKS_ON_PIXELS:
            doubt = UNLABELLED_DOUBT if name == EVERY_IMAGE else DOUBT
            is_expected = name == current or (name == EVERY_IMAGE and best in LABELS_ALONE)
            if is_expected:
                is_taken = not is_better(folds[best], validation, doubt)
            else:
                is_taken = is_better(validation, folds[best], doubt)
            if is_taken:
                best = name
    return best
