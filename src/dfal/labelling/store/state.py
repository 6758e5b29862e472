"""What the rows of a labelling store come to: labels, votes, open questions, the queue. The same
rows give the same."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from dfal.labelling.store.records import Answer, Choice, Model, Question
from dfal.labelling.store.schema import Settings
from dfal.query import DECLINED, UNKNOWN
from dfal.seeding import derive_seed

REMEMBERED = 100
"""Answers of a person that can be taken back."""
RECENT = 200
"""Answers that the time per label is taken from."""
PAUSE = 300.0
"""Seconds after which an answer tells nothing about the time that a label takes: somebody had gone
for coffee."""


@dataclass(frozen=True)
class UndoEntry:
    """An answer that can be taken back: what it was about, and what held before."""

    answer: int
    kind: str
    image: int
    question: int | None
    before: int | None


def most_votes(needed: int) -> int:
    """Return how many people may vote on one image: enough to break a tie of `needed` twice
    over."""
    return 2 * needed + 1


def majority(votes: Sequence[int], needed: int) -> int | None:
    """Return the label that several people's votes come to.

    A person who skips the image abstains: only classes are counted.

    Args:
        votes: a class or DECLINED for each person who answered.
        needed: how many people are asked about each image at least.

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


class State:
    """Everything that is true now. It is given rows in their order, and changes nothing else.

    Attributes:
        settings: the latest.
        classes: their names.
        former: names that classes had before, and their numbers.
        paths: of the images, by index.
        known: labels that the images came with.
        labels: the label of each image: a class, UNKNOWN, or DECLINED.
        held: images that measure accuracy and are never trained on. Each is drawn by itself, with
            the probability `settings.holdout`, before anything is asked, from those that came
            without a label.
        votes: image → person → class or DECLINED.
        corrected: image → what somebody made of it in the review.
        open: the questions that were asked and neither answered nor given back, by number. They may
        have run out.
        models: the networks, the latest last.
        queue: (image, position) as the latest one ranks them.
        order: all images but the hold-out, in an order of chance: what is asked where no network
        has an opinion.
    """

    def __init__(self) -> None:
        self.settings = Settings()
        self.classes: list[str] = []
        self.former: dict[str, int] = {}
        self.paths: list[str] = []
        self.prelabelled: NDArray[Any] = np.empty(0, np.int64)
        self.labels: NDArray[Any] = np.empty(0, np.int64)
        self.hold_out: NDArray[Any] = np.empty(0, bool)
        self.unreadable: dict[int, str] = {}
        self.votes: dict[int, dict[str, int]] = {}
        self.corrected: dict[int, int] = {}
        self.open: dict[int, Question] = {}
        self.open_by_image: dict[int, list[int]] = {}
        self.undo_history: dict[str, deque[UndoEntry]] = {}
        self.seconds: deque[float] = deque(maxlen=RECENT)
        self.flags: dict[int, str] = {}
        self.models: list[Model] = []
        self.queue: list[tuple[int, int]] = []
        self.error = ""
        self.last_answer_id = 0
        self.random_order: NDArray[Any] = np.empty(0, np.int64)
        self._hold_outs: NDArray[Any] = np.empty(0, np.int64)
        self._pending: dict[int, None] = {}
        self._touched = self._touched_held = 0
        self._from = self._from_held = 0

    # What rows do.

    def add_images(self, rows: Iterable[tuple[int, str, int | None]]) -> None:
        """Images by index, with the label they came with."""
        added = list(rows)
        if not added:
            return
        first = len(self.paths)
        if [row[0] for row in added] != list(range(first, first + len(added))):
            raise ValueError("images have no index of their own")
        self.paths += [row[1] for row in added]
        known = np.array([UNKNOWN if row[2] is None else row[2] for row in added], dtype=np.int64)
        self.prelabelled = np.concatenate([self.prelabelled, known])
        self.labels = np.concatenate([self.labels, known])
        self._draw()

    def rename(self, number: int, name: str) -> None:
        """A class is called otherwise from now on."""
        self.former[self.classes[number]] = number
        self.former.pop(name, None)
        self.classes[number] = name

    def add_known(self, rows: Iterable[tuple[int, int]]) -> None:
        """Labels that images came with, as it turned out later."""
        for image, label in rows:
            self._count(image, -1)
            self.prelabelled[image] = label
            self.hold_out[image] = False
            self._count(image, +1)
            self.labels[image] = self._label(image)
            self._pending.pop(image, None)
        self._draw()

    def _draw(self) -> None:
        """The hold-out and the order of chance: an image's place does not depend on which images
        come after it."""
        seed, n = self.settings.seed, len(self.paths)
        chances = _chances(seed, n, "hold-out")
        self.hold_out = (chances < self.settings.holdout) & (self.prelabelled == UNKNOWN)
        self._hold_outs = np.flatnonzero(self.hold_out)[
            np.argsort(chances[self.hold_out], kind="stable")
        ]
        self.random_order = np.argsort(_chances(seed, n, "order"), kind="stable")
        self.random_order = self.random_order[~self.hold_out[self.random_order]]
        self._from = self._from_held = 0

    def set_aside(self, image: int, reason: str) -> None:
        """Set aside an image that cannot be read; without a reason it can be read after all."""
        if reason:
            self.unreadable[image] = reason
        else:
            self.unreadable.pop(image, None)
            self._from = self._from_held = 0

    def add_answer(self, number: int, answer: Answer) -> None:
        """An answer, a correction, or what is true again since one of them was taken back."""
        self.last_answer_id = number
        person, image = answer.person, answer.image
        history = self.undo_history.setdefault(person, deque(maxlen=REMEMBERED))
        if answer.kind == "undo":
            given = history.pop()
            if given.answer != answer.undone:
                raise ValueError(f"answer {answer.undone} is not the last that {person} gave")
            self._set(given.kind, image, person, given.before)
        else:
            correction = answer.kind == "correction"
            before = (
                self.corrected.get(image) if correction else self.votes.get(image, {}).get(person)
            )
            history.append(UndoEntry(number, answer.kind, image, answer.question, before))
            self._set(answer.kind, image, person, answer.label)
        if answer.question is not None:
            self.close(answer.question)
        if answer.seconds is not None and answer.seconds < PAUSE:
            self.seconds.append(answer.seconds)

    def _set(self, kind: str, image: int, person: str, label: int | None) -> None:
        self._count(image, -1)
        if kind == "correction":
            if label is None:
                self.corrected.pop(image, None)
            else:
                self.corrected[image] = label
        elif label is None:
            votes = self.votes.get(image, {})
            votes.pop(person, None)
            if not votes:
                self.votes.pop(image, None)
        else:
            self.votes.setdefault(image, {})[person] = label
        self._count(image, +1)
        self.labels[image] = self._label(image)
        if self.labels[image] != UNKNOWN:
            self._pending.pop(image, None)
            return
        self._from = self._from_held = 0
        if image in self.votes:
            self._pending[image] = None
        else:
            self._pending.pop(image, None)

    def _count(self, image: int, change: int) -> None:
        """Before and after whatever changes which images were asked about: how many, and how many
        of the hold-out."""
        if image in self.votes or image in self.open_by_image:
            self._touched += change
            self._touched_held += change * bool(self.hold_out[image])

    def _label(self, image: int) -> int:
        if image in self.corrected:
            return self.corrected[image]
        voted = majority(list(self.votes.get(image, {}).values()), self.settings.votes)
        return int(self.prelabelled[image]) if voted is None else voted

    def add_question(self, question: Question) -> None:
        """Somebody is asked."""
        self._count(question.image, -1)
        self.open[question.id] = question
        self.open_by_image.setdefault(question.image, []).append(question.id)
        self._count(question.image, +1)

    def close(self, question: int) -> None:
        """It was answered or given back, or has run out."""
        closed = self.open.pop(question, None)
        if closed is not None:
            self._count(closed.image, -1)
            self.open_by_image[closed.image].remove(question)
            if not self.open_by_image[closed.image]:
                del self.open_by_image[closed.image]
            self._count(closed.image, +1)

    def add_model(self, model: Model, queue: Sequence[tuple[int, int]]) -> None:
        """A network was trained, and ranks the images anew."""
        self.models.append(model)
        self.queue = list(queue)

    def set_settings(self, settings: Settings) -> None:
        """They hold from now on."""
        self.settings = settings
        self._draw()
        self._pending.clear()
        for image in self.votes:
            self.labels[image] = self._label(image)
            if self.labels[image] == UNKNOWN:
                self._pending[image] = None

    # What follows.

    @property
    def trained_on(self) -> Bool[np.ndarray, "n"]:
        """The images whose label a network may learn."""
        taught: Bool[np.ndarray, n] = (self.labels >= 0) & ~self.hold_out
        return taught

    @property
    def annotated(self) -> Bool[np.ndarray, "n"]:
        """The images that somebody gave a class to: annotations, which cost. Those that came with a
        label did not."""
        given = np.zeros(len(self.labels), bool)
        given[[*self.votes, *self.corrected]] = True
        annotated: Bool[np.ndarray, n] = given & (self.labels >= 0)
        return annotated

    def is_disputed(self, image: int) -> bool:
        """Return whether all votes that are needed are there, but two classes are tied."""
        votes = self.votes.get(image, {}).values()
        return (
            bool(self.labels[image] < 0)
            and image not in self.corrected
            and len(votes) >= self.settings.votes
            and any(vote >= 0 for vote in votes)
        )

    @property
    def disputed(self) -> list[int]:
        """The images whose votes are tied, whether or not more people may still be asked."""
        undecided = [*self._pending, *np.flatnonzero(self.labels == DECLINED).tolist()]
        return sorted(image for image in undecided if self.is_disputed(image))

    @property
    def left(self) -> int:
        """Images that can still be asked about."""
        unlabelled = int((self.labels == UNKNOWN).sum())
        return unlabelled - sum(1 for image in self.unreadable if self.labels[image] == UNKNOWN)

    @property
    def sample_order(self) -> Int64[np.ndarray, "n"]:
        """All images that came without a label, in an order of chance that nothing depends on:
        those of the hold-out first, as they are asked about. What is measured on the first of them
        is measured on a random sample.
        """
        rest = self.random_order[self.prelabelled[self.random_order] == UNKNOWN]
        return np.concatenate([self._hold_outs, rest])

    def expire(self, now: float) -> None:
        """Questions whose time is over are nobody's any more; nor are those that were asked long
        after now.

        The latter were asked before somebody set the clock back: their time would be over in a
        year, or in ten.
        """
        over = [
            one
            for one in self.open.values()
            if one.until <= now or now < one.at - (one.until - one.at)
        ]
        for question in over:
            self.close(question.id)

    def may_ask(self, image: int, person: str) -> bool:
        """Return whether this person may be asked about the image now.

        Nobody is asked twice. As many people are asked as there are votes; while their votes are
        tied, one more at a time.
        """
        votes = self.votes.get(image, {})
        if person in votes or self.labels[image] != UNKNOWN or image in self.unreadable:
            return False
        asking = self.open_by_image.get(image, [])
        wanted = max(self.settings.votes, len(votes) + 1)  # without a label so far: missing or tied
        return len(asking) + len(votes) < wanted and all(
            self.open[one].person != person for one in asking
        )

    def next_for(self, person: str) -> Choice | None:
        """The image to ask this person about next. None where nothing is left."""
        image = self._next_held(person) if self._held_is_due() else None
        if image is not None:
            return Choice(image, "hold-out")
        for image in self._pending:
            if self.may_ask(image, person):
                return Choice(image, "hold-out" if self.hold_out[image] else "vote")
        for image, position in self.queue:
            if not self.hold_out[image] and self.may_ask(image, person):
                return Choice(image, "strategy", self.models[-1].id, position)
        self._from, image = self._scan(self.random_order, self._from, person)
        if image is not None:
            return Choice(image, "random")
        image = self._next_held(person)
        return None if image is None else Choice(image, "hold-out")

    def _held_is_due(self) -> bool:
        """Whether the share of the hold-out among all that was asked so far allows for one more."""
        return self._touched_held + 1 <= self.settings.holdout * (self._touched + 1) + 1e-9

    def _next_held(self, person: str) -> int | None:
        self._from_held, image = self._scan(self._hold_outs, self._from_held, person)
        return image

    def _scan(self, order: NDArray[Any], start: int, person: str) -> tuple[int, int | None]:
        """The first image from `start` on that may be asked about, and up to where all are done
        with for good."""
        done = start
        for place in range(start, len(order)):
            image = int(order[place])
            if self.may_ask(image, person):
                return done, image
            if place == done and (self.labels[image] != UNKNOWN or image in self.unreadable):
                done += 1
        return done, None


def _chances(seed: int, n: int, purpose: str) -> Float64[np.ndarray, "n"]:
    """A number in [0, 1) for each image, a function of the seed, the image and the purpose."""
    return (
        np.array([derive_seed(seed, image, purpose) for image in range(n)], dtype=np.float64)
        / 2.0**63
    )
