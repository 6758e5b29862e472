"""What is true now by the rows of a labelling store. The same rows give the same state."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from dfal.labelling.settings import Settings
from dfal.labelling.store.annotations import Annotations
from dfal.labelling.store.records import Answer, Choice, LearnerChoice, Model, UndoEntry
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed

UNDOABLE_ANSWERS = 100
"""Answers of a person that can be taken back."""
TIMED_ANSWERS = 200
"""Latest answers that the time per label is taken from."""
MAX_ATTENTION = 300.0
"""Seconds after which an answer says nothing about the time that a label takes: the person was
away."""


class State(Annotations):
    """Everything that is true now. Rows are added in their order, and nothing else changes it.

    Attributes:
        settings: the latest.
        classes: their names.
        former: names that classes had before, and their numbers.
        paths: of the images, by index.
        unreadable: image → why it is set aside.
        undo_history: person → answers that can be taken back, the latest last.
        seconds: that the latest answers took.
        flags: image → note.
        models: the networks, the latest last.
        queue: (image, position) as the latest one ranks them.
        learner: what the latest networks learn from; None before it was chosen.
        coverage: the images to query before there is a network, the first to be first.
        coverage_ranking: the number of that ranking.
        error: why the latest training failed; empty where it did not.
        last_answer_id: the number of the latest answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings()
        self.classes: list[str] = []
        self.former: dict[str, int] = {}
        self.paths: list[str] = []
        self.unreadable: dict[int, str] = {}
        self.undo_history: dict[str, deque[UndoEntry]] = {}
        self.seconds: deque[float] = deque(maxlen=TIMED_ANSWERS)
        self.flags: dict[int, str] = {}
        self.models: list[Model] = []
        self.queue: list[tuple[int, int]] = []
        self.learner: LearnerChoice | None = None
        self.coverage: list[int] = []
        self.coverage_ranking = 0
        self.error = ""
        self.last_answer_id = 0
        self._hold_out_scan = self._random_scan = Scan(np.empty(0, np.int64))

    @property
    def backbone(self) -> str:
        """Return whose features networks learn from now; "none" and EVERY_IMAGE for pixels."""
        return self.learner.backbone if self.learner else self.settings.first_backbone

    def set_settings(self, settings: Settings) -> None:
        """Apply other settings from now on."""
        self.settings = settings
        self._draw()
        self.need_votes(settings.votes)

    def rename(self, number: int, name: str) -> None:
        """Give a class another name."""
        self.former[self.classes[number]] = number
        self.former.pop(name, None)
        self.classes[number] = name

    def add_images(self, rows: Iterable[tuple[int, str, int | None]]) -> None:
        """Add images: index, path, and the label that they came with.

        Raises:
            ValueError: for indices that do not follow those of the images before.
        """
        images = list(rows)
        if not images:
            return
        first = len(self.paths)
        if [index for index, _, _ in images] != list(range(first, first + len(images))):
            raise ValueError("images have no index of their own")
        self.paths += [path for _, path, _ in images]
        labels = np.array([UNKNOWN if label is None else label for _, _, label in images], np.int64)
        self.prelabelled = np.concatenate([self.prelabelled, labels])
        self.labels = np.concatenate([self.labels, labels])
        self._draw()

    def add_prelabels(self, rows: Iterable[tuple[int, int]]) -> None:
        """Add labels (image, class) that images came with, as it turned out later."""
        for image, label in rows:
            self.prelabel(image, label)
        self._draw()

    def set_aside(self, image: int, reason: str) -> None:
        """Set aside an image that cannot be read; without a reason it can be read after all."""
        if reason:
            self.unreadable[image] = reason
        else:
            self.unreadable.pop(image, None)
            self._rewind()

    def add_answer(self, id: int, answer: Answer) -> None:
        """Add an answer, a correction, or an undo of one of them.

        Raises:
            ValueError: for an undo of another answer than the person's last.
        """
        self.last_answer_id = id
        kind, person, image = answer.kind, answer.person, answer.image
        history = self.undo_history.setdefault(person, deque(maxlen=UNDOABLE_ANSWERS))
        if kind == "undo":
            undone = history.pop()
            if undone.answer != answer.undone:
                raise ValueError(f"answer {answer.undone} is not the last that {person} gave")
            self._set_label(undone.kind, image, person, undone.before)
        else:
            before = (
                self.corrected.get(image)
                if kind == "correction"
                else self.votes.get(image, {}).get(person)
            )
            history.append(UndoEntry(id, kind, image, answer.question, before))
            self._set_label(kind, image, person, answer.label)
        if answer.question is not None:
            self.close(answer.question)
        if answer.seconds is not None and answer.seconds < MAX_ATTENTION:
            self.seconds.append(answer.seconds)

    def _set_label(self, kind: str, image: int, person: str, label: int | None) -> None:
        if kind == "correction":
            self.correct(image, label)
        else:
            self.vote(image, person, label)
        if self.labels[image] == UNKNOWN:
            self._rewind()

    def add_model(self, model: Model, queue: Sequence[tuple[int, int]]) -> None:
        """Add a network, and the images in the order in which it ranks them."""
        self.models.append(model)
        self.queue = list(queue)

    def expire(self, now: float) -> None:
        """Close the questions whose time is over, and those that were asked long after now.

        The latter were asked before somebody set the clock back: their time would be over in a
        year, or in ten.
        """
        for question in list(self.open.values()):
            lease = question.until - question.at
            if question.until <= now or now < question.at - lease:
                self.close(question.id)

    # The next question.

    def _draw(self) -> None:
        """Draw the hold-out and the random order.

        What an image draws does not depend on which images come after it.
        """
        seed, n = self.settings.seed, len(self.paths)
        draws = _uniform(seed, n, "hold-out")
        self.hold_out = (draws < self.settings.holdout) & (self.prelabelled == UNKNOWN)
        by_draw = np.argsort(draws, kind="stable")
        self._hold_out_scan = Scan(by_draw[self.hold_out[by_draw]])
        order = np.argsort(_uniform(seed, n, "order"), kind="stable")
        self._random_scan = Scan(order[~self.hold_out[order]])

    def _rewind(self) -> None:
        self._hold_out_scan.rewind()
        self._random_scan.rewind()

    @property
    def random_order(self) -> Int64[np.ndarray, "m"]:
        """Return all images but the hold-out in the random order in which they are queried."""
        return self._random_scan.order

    @property
    def sample_order(self) -> Int64[np.ndarray, "n"]:
        """Return all images without a prior label in random order, the hold-out first.

        Nothing depends on the order: what is measured on the first of them is measured on a random
        sample.
        """
        rest = self.random_order[self.prelabelled[self.random_order] == UNKNOWN]
        return np.concatenate([self._hold_out_scan.order, rest])

    @property
    def left(self) -> int:
        """Return how many images can still be queried."""
        unlabelled = int((self.labels == UNKNOWN).sum())
        return unlabelled - sum(1 for image in self.unreadable if self.labels[image] == UNKNOWN)

    def may_ask(self, image: int, person: str) -> bool:
        """Return whether this person may be asked to label the image now.

        Nobody is asked twice. As many people are asked as there are votes; while their votes are
        tied, one more at a time.
        """
        votes = self.votes.get(image, {})
        if person in votes or self._is_done(image):
            return False
        asking = self.open_by_image.get(image, [])
        wanted = max(self.votes_needed, len(votes) + 1)  # without a label so far: missing or tied
        return len(asking) + len(votes) < wanted and all(
            self.open[id].person != person for id in asking
        )

    def _is_done(self, image: int) -> bool:
        return bool(self.labels[image] != UNKNOWN) or image in self.unreadable

    def next_for(self, person: str) -> Choice | None:
        """Return the image to ask this person about next; None where nothing is left.

        The hold-out comes first as long as its share of the queried images allows for one more,
        then images that need more votes, then the queue of the latest network, then those that
        cover the folder, then random ones.
        """

        def may_ask(image: int) -> bool:
            return self.may_ask(image, person)

        if self._is_hold_out_due() and (choice := self._next_hold_out(may_ask)):
            return choice
        for image in self.undecided:
            if may_ask(image):
                return Choice(image, "hold-out" if self.hold_out[image] else "vote")
        for image, position in self.queue:
            if not self.hold_out[image] and may_ask(image):
                return Choice(image, "strategy", self.models[-1].id, position)
        for image in self.coverage:
            if not self.hold_out[image] and may_ask(image):
                return Choice(image, "coverage")
        random = self._random_scan.first(may_ask, self._is_done)
        return self._next_hold_out(may_ask) if random is None else Choice(random, "random")

    def _is_hold_out_due(self) -> bool:
        allowed = self.settings.holdout * (len(self.queried) + 1) + 1e-9
        return len(self.queried_hold_out) + 1 <= allowed

    def _next_hold_out(self, may_ask: Callable[[int], bool]) -> Choice | None:
        image = self._hold_out_scan.first(may_ask, self._is_done)
        return None if image is None else Choice(image, "hold-out")


class Scan:
    """Go through an order of images, and not again through those at its start that are done.

    Args:
        order: the indices of the images.
    """

    def __init__(self, order: Int64[np.ndarray, "m"]):
        self.order = order
        self._start = 0

    def rewind(self) -> None:
        """Start at the first image again: one that was done is so no more."""
        self._start = 0

    def first(self, may_ask: Callable[[int], bool], is_done: Callable[[int], bool]) -> int | None:
        """Return the first image that may be queried, None where there is none."""
        for place in range(self._start, len(self.order)):
            image = int(self.order[place])
            if may_ask(image):
                return image
            if place == self._start and is_done(image):
                self._start += 1
        return None


def _uniform(seed: int, n: int, purpose: str) -> Float64[np.ndarray, "n"]:
    """Return a number in [0, 1) for each image, a function of seed, image and purpose."""
    draws = [derive_seed(seed, image, purpose) for image in range(n)]
    return np.array(draws, dtype=np.float64) / 2.0**63
