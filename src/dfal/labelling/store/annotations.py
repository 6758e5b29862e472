"""What people said about the images, and the label that each image comes to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from dfal.labelling.store.records import Question
from dfal.query import DECLINED, UNKNOWN


def most_votes(needed: int) -> int:
    """Return how many people may vote on an image: enough to break a tie twice over."""
    return 2 * needed + 1


def majority(votes: Sequence[int], needed: int) -> int | None:
    """Return the label that several people's votes come to.

    A person who skips the image abstains: only classes are counted.

    Args:
        votes: a class or DECLINED for each person who answered.
        needed: how many people label each image at least.

    Returns:
        The class that more people gave than any other; DECLINED where all abstained, and where
        classes are still tied after `most_votes` people; None while votes are missing or tied.
    """
    if len(votes) < needed:
        return None
    counts = Counter(vote for vote in votes if vote >= 0).most_common(2)
    if not counts:
        return DECLINED
    if len(counts) == 1 or counts[0][1] > counts[1][1]:
        return counts[0][0]
    return None if len(votes) < most_votes(needed) else DECLINED


class Annotations:
    """Votes, corrections and open questions of all images, and the labels and counts that follow.

    Attributes:
        votes_needed: people who label each image at least.
        prelabelled: (n,) labels that the images came with; UNKNOWN where there was none.
        labels: (n,) the label of each image: a class, UNKNOWN, or DECLINED.
        hold_out: (n,) images that measure accuracy and are never trained on.
        votes: image → person → class or DECLINED.
        corrected: image → its label from the review.
        open: the questions that were asked and neither answered nor released, by number. They may
            have expired.
        open_by_image: image → numbers of its open questions.
        undecided: the images that were voted on and have no label: votes are missing or tied.
        queried, queried_hold_out: images with a vote or an open question, and those of them in the
            hold-out.
    """

    def __init__(self) -> None:
        self.votes_needed = 1
        self.prelabelled: NDArray[Any] = np.empty(0, np.int64)
        self.labels: NDArray[Any] = np.empty(0, np.int64)
        self.hold_out: NDArray[Any] = np.empty(0, bool)
        self.votes: dict[int, dict[str, int]] = {}
        self.corrected: dict[int, int] = {}
        self.open: dict[int, Question] = {}
        self.open_by_image: dict[int, list[int]] = {}
        self.undecided: dict[int, None] = {}
        self.queried: set[int] = set()
        self.queried_hold_out: set[int] = set()

    def need_votes(self, needed: int) -> None:
        """Decide every label anew by so many votes."""
        self.votes_needed = needed
        self.undecided.clear()
        for image in self.votes:
            self._decide(image)

    def prelabel(self, image: int, label: int) -> None:
        """Give an image the label that it came with, as it turned out later."""
        self.prelabelled[image] = label
        self.hold_out[image] = False
        self._count(image)
        self._decide(image)

    def vote(self, image: int, person: str, label: int | None) -> None:
        """Set a person's vote: a class or DECLINED; None takes it back."""
        votes = self.votes.setdefault(image, {})
        if label is None:
            votes.pop(person, None)
        else:
            votes[person] = label
        if not votes:
            del self.votes[image]
        self._count(image)
        self._decide(image)

    def correct(self, image: int, label: int | None) -> None:
        """Settle the label of an image, whatever the votes are; None takes that back."""
        if label is None:
            self.corrected.pop(image, None)
        else:
            self.corrected[image] = label
        self._decide(image)

    def add_question(self, question: Question) -> None:
        """Open a question."""
        self.open[question.id] = question
        self.open_by_image.setdefault(question.image, []).append(question.id)
        self._count(question.image)

    def close(self, id: int) -> None:
        """Close a question that was answered or released, or has expired."""
        question = self.open.pop(id, None)
        if question is None:
            return
        ids = self.open_by_image[question.image]
        ids.remove(id)
        if not ids:
            del self.open_by_image[question.image]
        self._count(question.image)

    def _decide(self, image: int) -> None:
        label = self.corrected.get(image)
        if label is None:
            label = majority([*self.votes.get(image, {}).values()], self.votes_needed)
        self.labels[image] = self.prelabelled[image] if label is None else label
        if image in self.votes and self.labels[image] == UNKNOWN:
            self.undecided[image] = None
        else:
            self.undecided.pop(image, None)

    def _count(self, image: int) -> None:
        queried = image in self.votes or image in self.open_by_image
        for images, belongs in (
            (self.queried, queried),
            (self.queried_hold_out, queried and self.hold_out[image]),
        ):
            (images.add if belongs else images.discard)(image)

    @property
    def trained_on(self) -> Bool[np.ndarray, "n"]:
        """Return which images have a label that a network may be trained on."""
        trained_on: Bool[np.ndarray, n] = (self.labels >= 0) & ~self.hold_out
        return trained_on

    @property
    def annotated(self) -> Bool[np.ndarray, "n"]:
        """Return which images have a class that somebody gave: annotations, which cost.

        Labels that images came with did not.
        """
        answered = np.zeros(len(self.labels), bool)
        answered[[*self.votes, *self.corrected]] = True
        annotated: Bool[np.ndarray, n] = answered & (self.labels >= 0)
        return annotated

    def is_disputed(self, image: int) -> bool:
        """Return whether all votes that are needed are there, but two classes are tied."""
        votes = self.votes.get(image, {}).values()
        return (
            bool(self.labels[image] < 0)
            and image not in self.corrected
            and len(votes) >= self.votes_needed
            and any(vote >= 0 for vote in votes)
        )

    @property
    def disputed(self) -> list[int]:
        """Return the images whose votes are tied, whether or not more people may still be asked."""
        without_class = [*self.undecided, *np.flatnonzero(self.labels == DECLINED).tolist()]
        return sorted(image for image in without_class if self.is_disputed(image))
