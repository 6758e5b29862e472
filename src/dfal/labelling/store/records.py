"""What the rows of a labelling store hold: questions, answers, networks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Question:
    """An image that somebody is asked about.

    Attributes:
        id: the question's number.
        image: the image's index.
        kind: "strategy", where a network chose it; "random"; "hold-out", where it measures accuracy
            and is never trained on; "vote", where others have answered before.
        model, position: the network that chose it, and its place in that network's queue.
        person, holder: who is asked, and through which page or session of theirs.
        until: when it is asked of somebody else.
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
    """An image to ask about, and why: a question before it is somebody's. The attributes are those
    of `Question`."""

    image: int
    kind: str
    model: int | None = None
    position: int | None = None


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
class Model:
    """A network that was trained, and the classes that it saw in the images that are watched.

    Attributes:
        id: its number, from 1.
        at, seconds: when it was ready, and how long its training took.
        heard: the last answer that it knew of.
        annotations, labelled_data: on how much it was trained, without and with twins.
        classes: how many it tells apart.
        watched, seen: images drawn at random, the same ones each time, and their classes.
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
