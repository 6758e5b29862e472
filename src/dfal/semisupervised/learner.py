"""Learn after every answer."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from dfal.errors import DfalError
from dfal.semisupervised.head import Head, fit_head, probabilities
from dfal.semisupervised.neighbourhood import Neighbourhood
from dfal.semisupervised.spreading import Spreading

ALPHA = 0.9
"""α of label spreading."""

STRENGTH = 1e-3
"""λ of the head."""

GIVEN = 5.0
"""Weight of an image with a given label, where one whose spread label is certain counts 1."""

HEAD_ROWS = 4_000
"""Rows without a label that the head is trained on."""


@dataclass(frozen=True)
class LeftOut:
    """What labelled images would be taken for without their own label.

    Only images of classes with two or more labels: the only one of its class is always mistaken.

    Attributes:
        images: which they are, ascending.
        labels: the classes given.
        posterior: class probabilities.
    """

    images: Int64[np.ndarray, "l"]
    labels: Int64[np.ndarray, "l"]
    posterior: Float32[np.ndarray, "l c"]

    @property
    def predicted(self) -> Int64[np.ndarray, "l"]:
        """Return the most probable classes."""
        predicted: Int64[np.ndarray, l] = self.posterior.argmax(axis=1)
        return predicted

    @property
    def accuracy(self) -> float | None:
        """Return the fraction that is right; None without images."""
        return float((self.labels == self.predicted).mean()) if len(self.labels) else None


@dataclass(frozen=True)
class Learned:
    """What is learnt from some labels.

    Attributes:
        head: z → logits; softmax gives probabilities as they should be reported.
        has_label: for each class, whether it has a label. Without one its probability is small.
        left_out: labelled images predicted from the other labels.
        posterior: spread class probabilities of the images in the graph.
    """

    head: Head
    has_label: Bool[np.ndarray, "c"]
    left_out: LeftOut
    posterior: Float32[np.ndarray, "n c"]


class FewLabelLearner:
    """Learns from a few labels of many images.

    The same labels give the same result up to rounding, in whatever order they came.

    Args:
        neighbourhood: of the images.
        classes: how many there are, with and without labels.
    """

    def __init__(self, neighbourhood: Neighbourhood, classes: int):
        if classes < 1:
            raise DfalError(f"classes = {classes}: name one or more")
        self.neighbourhood, self.classes = neighbourhood, classes
        self.rows = neighbourhood.rows
        self._spreading = Spreading(neighbourhood.graph, classes, ALPHA)
        self._head: Head | None = None
        order = np.random.default_rng(0).permutation(len(self.rows))
        self._sample = np.sort(order[:HEAD_ROWS])

    def append(self, features: Float[np.ndarray, "n d"]) -> None:
        """Add images whose features came later.

        They are in no graph until a new `Neighbourhood` is computed: no label spreads to them, and
        their own labels spread from the nearest image that is in it.
        """
        self.rows = np.concatenate([self.rows, self.neighbourhood.space(features)])

    def update(self, labels: Int64[np.ndarray, "n"]) -> Learned:
        """Learn from these labels; quick where few of them are new.

        Args:
            labels: the class of each row; below 0 without one (`UNKNOWN`, `DECLINED`).

        Raises:
            DfalError: for labels that do not fit the rows or classes.
        """
        labels = np.asarray(labels, np.int64)
        if labels.shape != (len(self.rows),):
            raise DfalError(f"{len(labels)} labels for {len(self.rows)} images: give one for each")
        if len(labels) and labels.max() >= self.classes:
            raise DfalError(f"class {labels.max()} is none of the {self.classes} classes")
        in_graph = self._in_graph(labels)
        self._spreading.update(in_graph)
        posterior = self._spreading.posterior()
        given = np.flatnonzero(labels >= 0)
        has_label = np.bincount(labels[given], minlength=self.classes) > 0
        self._head = self._fit(labels, given, posterior)
        return Learned(self._head, has_label, self._left_out(labels, in_graph), posterior)

    def _in_graph(self, labels: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "joined"]:
        """Return the labels of the images in the graph.

        An image outside lends its label to the nearest one that has none. Otherwise a class whose
        labels are all outside would be given to another one everywhere.
        """
        joined = len(self.neighbourhood.rows)
        in_graph = labels[:joined].copy()
        outside = joined + np.flatnonzero(labels[joined:] >= 0)
        if len(outside) and (in_graph < 0).any():
            likeness = self.neighbourhood.rows @ self.rows[outside].T
            likeness[labels[:joined] >= 0] = -np.inf
            in_graph[likeness.argmax(axis=0)] = labels[outside]
        return in_graph

    def _fit(
        self,
        labels: Int64[np.ndarray, "n"],
        given: Int64[np.ndarray, "l"],
        posterior: Float32[np.ndarray, "joined c"],
    ) -> Head:
        if not len(given):
            weight = np.zeros((self.classes, self.rows.shape[1]), np.float32)
            return Head(weight, np.zeros(self.classes, np.float32))
        others = self._sample[labels[self._sample] < 0]
        targets = np.zeros((len(given) + len(others), self.classes), np.float32)
        targets[np.arange(len(given)), labels[given]] = 1
        targets[np.arange(len(given), len(targets)), posterior[others].argmax(axis=1)] = 1
        weights = np.full(len(targets), GIVEN, np.float32)
        weights[len(given) :] = _confidence(posterior[others]) ** 2
        rows = self.rows[np.concatenate([given, others])]
        return fit_head(rows, targets, weights, STRENGTH, self._head)

    def _left_out(
        self, labels: Int64[np.ndarray, "n"], in_graph: Int64[np.ndarray, "joined"]
    ) -> LeftOut:
        images = np.flatnonzero(in_graph >= 0)
        counts = np.bincount(in_graph[images], minlength=self.classes)
        kept = (counts[in_graph[images]] > 1) & (labels[images] >= 0)
        return LeftOut(images[kept], in_graph[images][kept], self._spreading.left_out()[kept])

    def predict(self, learned: Learned) -> Float32[np.ndarray, "n c"]:
        """Return the class probabilities of all rows."""
        return probabilities(learned.head(self.rows))


def _confidence(posterior: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n"]:
    """Return how much the largest probability is above an even one, from 0 to 1."""
    even = 1 / posterior.shape[1]
    confidence: Float32[np.ndarray, n] = (posterior.max(axis=1) - even) / (1 - even + 1e-9)
    return confidence
