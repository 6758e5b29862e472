"""What the rows of a labelling store say: questions, answers, networks and what they predict."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Question:
    """An image that somebody is asked to label.

    Attributes:
        id: the question's number.
        image: the image's index.
        kind: "strategy", where a network chose it; "coverage", where it stands for images like it
            before there is a network; "random"; "hold-out", where it measures accuracy and is
            never trained on; "vote", where others have answered before.
        model, position: the network that chose it, and its place in that network's queue.
        person: who is asked.
        client_id: the page or session through which they are asked.
        at: when it was asked.
        until: when somebody else is asked to label the image.
    """

    id: int
    image: int
    kind: str
    model: int | None
    position: int | None
    person: str
    client_id: str
    at: float
    until: float


@dataclass(frozen=True)
class Choice:
    """An image to query, and why: a question that nobody has been asked yet.

    Attributes:
        image, kind, model, position: those of `Question`.
    """

    image: int
    kind: str
    model: int | None = None
    position: int | None = None


@dataclass(frozen=True)
class StoredQuestion:
    """A question that was asked some time.

    Attributes:
        image, person, kind, model, position: those of `Question`.
    """

    image: int
    person: str
    kind: str
    model: int | None
    position: int | None

    @property
    def choice(self) -> Choice:
        """Return the image and why it was queried."""
        return Choice(self.image, self.kind, self.model, self.position)


@dataclass(frozen=True)
class Answer:
    """What somebody said.

    Attributes:
        kind: "answer"; "correction", in the review; "undo", where what holds again is said.
        image: the image's index.
        label: a class, `DECLINED`, or `UNKNOWN` where an undo leaves none.
        person: who said it.
        question: the one that is answered.
        undone: the answer that is taken back.
        seconds: how long somebody looked at the image.
    """

    kind: str
    image: int
    label: int
    person: str
    question: int | None = None
    undone: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to a question.

    Attributes:
        label: a class or `DECLINED`.
        is_undone: whether it was taken back.
    """

    label: int
    is_undone: bool


@dataclass(frozen=True)
class LastAnswer:
    """The latest answer, correction or undo about an image.

    Attributes:
        id: its number.
        person: whose it is.
        at: when it came, in seconds since 1970.
    """

    id: int
    person: str
    at: float


@dataclass(frozen=True)
class UndoEntry:
    """An answer that can be taken back.

    Attributes:
        answer: its number.
        kind, image, question: what it was about.
        before: the person's vote, or the correction, that was true before; None where there was
            none.
    """

    answer: int
    kind: str
    image: int
    question: int | None
    before: int | None


@dataclass(frozen=True)
class Model:
    """A network that was trained, and what it predicts for the watched images.

    Attributes:
        id: its number, from 1.
        at, seconds: when it was ready, and how long its training took.
        last_answer_id: the latest answer when its training began.
        annotations, labelled_data: on how much it was trained, without and with twins.
        classes: how many it tells apart.
        watched: (w,) images drawn at random, the same ones each time.
        predicted: (w,) their classes.
    """

    id: int
    at: float
    last_answer_id: int
    annotations: int
    labelled_data: int
    classes: int
    seconds: float
    watched: Int64[np.ndarray, "w"]
    predicted: Int64[np.ndarray, "w"]


@dataclass(frozen=True)
class LearnerChoice:
    """What networks learn from.

    Attributes:
        model: the first network that does.
        backbone: whose features it is; "none" for pixels.
        why: a sentence for the page.
        at: when it was chosen.
    """

    model: int
    backbone: str
    why: str
    at: float


@dataclass(frozen=True)
class RankedImage:
    """An image as a network ranks it.

    Attributes:
        image: its index.
        score: what the strategy ranked it by; inf where it has no bound.
        predicted, runner_up: the class that the network predicts, and the next likely one.
        twin: the adversarial twin minus the image; None where there is none.
        twin_predicted: the class that the network predicts for the twin.
    """

    image: int
    score: float
    predicted: int
    runner_up: int
    twin: Float[Tensor, "*image"] | None = None
    twin_predicted: int | None = None


@dataclass(frozen=True)
class Judgement:
    """What a network that was not trained on an image predicts for it.

    Attributes:
        image: its index.
        predicted: the class.
        confidence: the probability of that class, calibrated where there were enough labels.
        distance: to the decision boundary, where the network has reason to doubt the label; else
            None.
    """

    image: int
    predicted: int
    confidence: float
    distance: float | None = None
