"""What the page's API replies. Each class is a schema of the OpenAPI description."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dfal.labelling.learning.review import ReviewRow
from dfal.labelling.photos import Photos, Picture
from dfal.labelling.store.records import Question, RankedImage
from dfal.labelling.store.state import State
from dfal.strategies import STRATEGIES, TWINS


def printable(text: str) -> str:
    """Replace what JSON cannot hold: file names may have bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


Text = Annotated[str, BeforeValidator(printable)]
Finite = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number; null where it is infinite, which JSON cannot say."""


class Reply(BaseModel):
    """Base of replies: they have the described keys and no others."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class StatusReply(Reply):
    """What has changed, for a page that decides what to fetch.

    Attributes:
        last_answer_id: id of the latest answer; 0 before the first.
        model: number of the latest model; 0 before the first.
        left: images that can still be queried.
        store: id of the store.
    """

    last_answer_id: int
    model: int
    left: int
    store: str


def status_keys(state: State, photos: Photos) -> dict[str, Any]:
    """Return the keys of `StatusReply` for a state of the store."""
    return {
        "last_answer_id": state.last_answer_id,
        "model": state.models[-1].id if state.models else 0,
        "left": state.left,
        "store": photos.store,
    }


class QuestionReply(Reply):
    """An image to label.

    Attributes:
        id: the question's number.
        image: the image's index.
        version: names the image's content; null where the file cannot be found.
        path: of the image in its folder.
        kind: "strategy", "random", "hold-out" or "vote": why it was selected.
        note: of the image's flag; null without a flag.
    """

    id: int
    image: int
    version: str | None
    path: Text
    kind: Text
    note: Text | None

    @classmethod
    def of(cls, question: Question, state: State, photos: Photos) -> "QuestionReply":
        """Return the reply for a question of the store."""
        return cls.model_validate(
            {
                "id": question.id,
                "image": question.image,
                "version": photos.version(question.image) or None,
                "path": state.paths[question.image],
                "kind": question.kind,
                "note": state.flags.get(question.image),
            }
        )


class AskReply(StatusReply):
    """The open questions of a page."""

    questions: list[QuestionReply]


class UndoReply(StatusReply):
    """What was taken back.

    Attributes:
        image: whose answer or correction it was.
        question: asked again; null where a correction was taken back.
    """

    image: int
    question: QuestionReply | None


class ClassesReply(Reply):
    """The names of all classes, by index."""

    classes: list[Text]
    store: str


class NewClassReply(ClassesReply):
    """The index of the class that was added, and the names of all."""

    index: Annotated[int, Field(alias="class")]


class ReasonReply(Reply):
    """Why an image was selected; all null where no model selected it.

    Attributes:
        predicted, runner_up: the class that the model predicts, and the nearest other one.
        score: of the strategy; for DFAL the distance to the decision boundary.
        twin: whether pictures of an adversarial twin can be had.
        twin_predicted: the class that the model predicts for the twin.
        version: names the content of the twin's pictures.
        strategy: that selected the image.
        about: what that strategy selects, in a few words; null for one of the user's own.
        backbone: in whose features distances are; "none" where they are in pixels.
    """

    predicted: int | None
    runner_up: int | None
    score: Finite
    twin: bool
    twin_predicted: int | None
    version: str | None
    strategy: str | None
    about: str | None
    backbone: str | None

    @classmethod
    def of(cls, ranked: RankedImage | None, twin: Picture | None, state: State) -> "ReasonReply":
        """Return the reply for an image as a model ranked it.

        Args:
            ranked: the image; None where no model selected it.
            twin: a picture of its twin; None where there is none.
            state: of the store.
        """
        if ranked is None:
            return cls.model_validate(dict.fromkeys(cls.model_fields) | {"twin": False})
        strategy = state.settings.strategy_on(state.backbone)
        known = strategy.removesuffix(TWINS)
        return cls(
            predicted=ranked.predicted,
            runner_up=ranked.runner_up,
            score=ranked.score,
            twin=twin is not None,
            twin_predicted=ranked.twin_predicted,
            version=None if twin is None else twin.version,
            strategy=strategy,
            about=STRATEGIES.about(known) if known in STRATEGIES else None,
            backbone=state.backbone,
        )


class SetAsideReply(Reply):
    """An image that cannot be read, and why."""

    image: int
    path: Text
    reason: Text


class ReviewedReply(Reply):
    """An image in the review.

    Attributes:
        image, path, version: which image, and the name of its content.
        label: null where it has none.
        declined, disputed: whether people skipped it; whether their votes are tied.
        source: where the label comes from; empty where there is none.
        votes: person → class; null where they skipped it.
        note: of its flag; null without a flag.
        predicted, confidence: by a model that was not trained on it; null before the first check.
        distance: to the decision boundary, where the label is probably wrong.
        suspicion: how strongly the model contradicts the label; 0 where it is probably right.
        hold_out: whether it is in the hold-out.
    """

    image: int
    path: Text
    version: str | None
    label: int | None
    declined: bool
    disputed: bool
    source: Literal["folder", "people", "correction", ""]
    votes: dict[str, int | None]
    note: Text | None
    predicted: int | None
    confidence: Finite
    distance: Finite
    suspicion: Finite
    hold_out: bool

    @classmethod
    def of(cls, reviewed: ReviewRow, photos: Photos) -> "ReviewedReply":
        """Return the reply for a row of the review."""
        return cls.model_validate(
            {
                "image": reviewed.image,
                "path": reviewed.path,
                "version": photos.version(reviewed.image) or None,
                "label": reviewed.label,
                "declined": reviewed.declined,
                "disputed": reviewed.disputed,
                "source": reviewed.source,
                "votes": reviewed.votes,
                "note": reviewed.note,
                "predicted": reviewed.predicted,
                "confidence": reviewed.confidence,
                "distance": reviewed.distance,
                "suspicion": reviewed.suspicion,
                "hold_out": reviewed.hold_out,
            }
        )


class ReviewReply(Reply):
    """A page of the review.

    Attributes:
        images: those on the page.
        total: how many there are in all.
        checked: what models make of the labels so far, in a sentence.
        store: id of the store.
    """

    images: list[ReviewedReply]
    total: int
    checked: str
    store: str


class Refusal(Reply):
    """Why a request was refused.

    Attributes:
        detail: one sentence.
        store: id of the store that this page has now, where the request named another one.
    """

    detail: str
    store: str | None = None
