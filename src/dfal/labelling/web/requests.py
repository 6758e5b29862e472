"""What requests to the page's API may say."""

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from dfal.labelling.names import MAX_NAME_LENGTH, MAX_NOTE_LENGTH
from dfal.labelling.store.session import MAX_ANSWER_SECONDS, MAX_OPEN_QUESTIONS

MAX_CLASS_NAME = 300
"""Characters of a class name in a request; `class_name` says what it may hold."""

Person = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_LENGTH, description="name of who labels"),
]
ClientId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern="^[0-9A-Za-z-]+$",
        description="the open page that holds the questions; `holder` is accepted too",
        validation_alias=AliasChoices("client_id", "holder"),
    ),
]
Id = Annotated[int, Field(ge=0, lt=2**53)]
ClassIndex = Annotated[int, Field(ge=0, lt=2**31, description="index of a class")]
Seconds = Annotated[
    float | None,
    Field(ge=0, le=MAX_ANSWER_SECONDS, description="how long the image was shown"),
]
ShownImage = Annotated[
    int | None,
    Field(
        ge=0,
        lt=2**53,
        description="image that was shown; refused where the question is about another one",
    ),
]


class Body(BaseModel):
    """Base of request bodies: keys that are not described are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AskRequest(Body):
    """Ask for questions for one open page of one person."""

    person: Person
    client_id: ClientId
    count: Annotated[
        int, Field(ge=1, le=MAX_OPEN_QUESTIONS, description="how many, including those kept")
    ]
    keep: Annotated[
        list[Id],
        Field(
            max_length=MAX_OPEN_QUESTIONS,
            description="open questions of this page that it keeps; the others are released",
        ),
    ] = []


class AnswerRequest(Body):
    """Answer a question with a class."""

    question: Id
    image: ShownImage = None
    label: ClassIndex
    person: Person
    seconds: Seconds = None


class DeclineRequest(Body):
    """Skip a question."""

    question: Id
    image: ShownImage = None
    person: Person
    seconds: Seconds = None


class ClientRequest(Body):
    """Name a person and one of their open pages."""

    person: Person
    client_id: ClientId


class CorrectionRequest(Body):
    """Set the label of an image, or mark the image as skipped where `label` is null."""

    image: Id
    label: ClassIndex | None = None
    person: Person


class FlagRequest(Body):
    """Flag an image with a note, or remove its flag."""

    image: Id
    person: Person
    raised: bool = True
    note: Annotated[str, Field(max_length=MAX_NOTE_LENGTH)] = ""


class RenameRequest(Body):
    """Rename a class."""

    index: Annotated[ClassIndex, Field(alias="class")]
    name: Annotated[str, Field(max_length=MAX_CLASS_NAME)]
    person: Person


class NewClassRequest(Body):
    """Add a class."""

    name: Annotated[str, Field(max_length=MAX_CLASS_NAME)]
    person: Person
