"""The HTTP API, and the page that uses nothing else."""

import math
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from dfal.data.image_files import Unavailable
from dfal.errors import DfalError
from dfal.labelling import export
from dfal.labelling.learning.progress import progress
from dfal.labelling.learning.review import MAX_REVIEW_PAGE, review
from dfal.labelling.names import MAX_NAME_LENGTH, MAX_NOTE_LENGTH
from dfal.labelling.photos import Photos, Picture
from dfal.labelling.store.records import Question
from dfal.labelling.store.session import (
    MAX_ANSWER_SECONDS,
    MAX_OPEN_QUESTIONS,
    ConflictError,
    NotFoundError,
    Session,
)
from dfal.labelling.store.state import State
from dfal.query import DECLINED

Person = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH, description="who answers")]
ClientId = Annotated[
    str,
    Field(
        min_length=1, max_length=64, pattern="^[0-9A-Za-z-]+$", description="which of their pages"
    ),
]
Number = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[
    float | None, Field(ge=0, le=MAX_ANSWER_SECONDS, description="how long somebody looked")
]


class Body(BaseModel):
    """What a request may say: nothing that is not named here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Ask(Body):
    """Questions for one page of one person."""

    person: Person
    holder: ClientId
    count: Annotated[
        int, Field(ge=1, le=MAX_OPEN_QUESTIONS, description="how many, with those that are kept")
    ]
    keep: Annotated[
        list[Number],
        Field(
            max_length=MAX_OPEN_QUESTIONS,
            description="open questions of this page that stay; others return",
        ),
    ] = []


Seen = Annotated[
    int | None,
    Field(
        ge=0,
        lt=2**53,
        description="the image that was looked at: another image's question is refused",
    ),
]


class Answer(Body):
    """The answer to a question."""

    question: Number
    image: Seen = None
    label: Annotated[int, Field(ge=0, lt=2**31, description="the number of a class")]
    person: Person
    seconds: Seconds = None


class Declined(Body):
    """A question that somebody does not want to answer."""

    question: Number
    image: Seen = None
    person: Person
    seconds: Seconds = None


class Undo(Body):
    """Take back a person's last answer."""

    person: Person
    holder: ClientId


class Correction(Body):
    """Settle the label of an image; without a label it is declined."""

    image: Number
    label: Annotated[int | None, Field(ge=0, lt=2**31)] = None
    person: Person


class Flag(Body):
    """Put a flag on an image, or take it off."""

    image: Number
    person: Person
    raised: bool = True
    note: Annotated[str, Field(max_length=MAX_NOTE_LENGTH)] = ""


class Leave(Body):
    """A page is closed."""

    person: Person
    holder: ClientId


class Rename(Body):
    """Another name for a class."""

    number: Annotated[int, Field(ge=0, lt=2**31, alias="class")]
    name: Annotated[str, Field(max_length=300)]
    person: Person


class NewClass(Body):
    """One more class."""

    name: Annotated[str, Field(max_length=300)]
    person: Person


REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": why,
        "content": {"application/json": {"schema": {"type": "object", "required": ["detail"]}}},
    }
    for code, why in {
        400: "what was asked for makes no sense",
        401: "the token is missing",
        403: "another site sent it",
        404: "there is no such thing",
        409: "not now: it was answered meanwhile, or nothing is left",
        412: "this page serves another store than the one that `store` names",
        413: "too large",
        422: "not what is described here",
        429: "too much at once",
        503: "an image cannot be read just now, or its folder is away: try again",
        507: "the store cannot be written",
    }.items()
}
PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/gif", "image/webp")},
        "description": "the picture; it may be kept where the address has its present version",
    },
    304: {"description": "the picture that `if-none-match` names"},
}
ABOUT = """The page itself uses nothing else.

Each reply names the store, and any request may name it too, as `?store=…`: a page that serves
another store refuses such a request (412). An answer may name its image: where the question is
about another image it is refused (409). Questions and rows of the review have the version of their
image: `/api/images/7?version=…` never changes and may be kept, without a version, or with another
one than the present one, it must be asked for again.
"""
Version = Annotated[
    str,
    Query(
        max_length=64,
        description="what the picture's content is called, as replies that name the image say",
    ),
]
IfNoneMatch = Annotated[str, Header(include_in_schema=False)]
KEPT = 24 * 3600
"""Seconds for which a browser may keep a picture whose address names its content."""
OtherStore = Annotated[str, Query(max_length=64, alias="store", include_in_schema=False)]


class OtherStoreError(Exception):
    """A page that was opened over another store sent a request."""


def application(
    session: Session, photos: Photos, training: Callable[[], str] = lambda: "", *, here: bool = True
) -> FastAPI:
    """The page and its API over one session.

    Args:
        session: of the store.
        photos: its images.
        training: what the trainer does now, in a word or none.
        here: whether only this machine's user can ask, whose name is known then.
    """
    app = FastAPI(
        title="dfal label",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=REFUSALS,
        # a redirect would name this server, which visitors of a proxy cannot reach
        redirect_slashes=False,
        dependencies=[Depends(_only_of(photos.store))],
    )

    @app.exception_handler(DfalError)
    def explain(_: Request, error: DfalError) -> JSONResponse:
        """One sentence."""
        code = 400
        if isinstance(error, NotFoundError):
            code = 404
        elif isinstance(error, ConflictError):
            code = 409
        elif isinstance(error, Unavailable):  # the page tries again
            code = 503
        elif error.__cause__ is not None:  # what the disk or the database said
            code = 507
        return JSONResponse({"detail": _plain(str(error))}, code)

    @app.exception_handler(OtherStoreError)
    def disown(_: Request, error: OtherStoreError) -> JSONResponse:
        """The page is an old one."""
        folder = _plain(Path(session.settings.folder).name)
        return JSONResponse(
            {
                "detail": f"this page was opened over another store: reload it to label {folder}",
                "store": photos.store,
            },
            412,
        )

    @app.exception_handler(RequestValidationError)
    def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        """One sentence that does not repeat what was sent: it may be long, and no text that JSON
        can hold."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": _plain(f"{where}: {first['msg']}"[:300])}, 422)

    _answering(app, session, photos)
    _looking(app, session, photos, training, here)
    app.mount("/", StaticFiles(directory=str(files("dfal.labelling.web") / "page"), html=True))
    return app


def _only_of(store: str) -> Callable[[str], None]:
    def check(named: OtherStore = "") -> None:
        if named not in {"", store}:
            raise OtherStoreError

    return check


def _answering(app: FastAPI, session: Session, photos: Photos) -> None:
    """What people say."""

    def now(state: State) -> dict[str, Any]:
        return _now(state, photos)

    @app.post("/api/ask")
    def ask(body: Ask) -> dict[str, Any]:
        """The next questions, which are this page's until their time is over."""
        asked = session.ask(body.count, person=body.person, client_id=body.holder, keep=body.keep)
        with session.locked_state() as state:
            return {
                "questions": [_question(question, state, photos) for question in asked],
                **now(state),
            }

    @app.post("/api/tell")
    def tell(body: Answer) -> dict[str, Any]:
        """An answer; it is on the disk when the reply comes. To send it again changes nothing."""
        session.tell(
            body.question, body.label, person=body.person, seconds=body.seconds, image=body.image
        )
        with session.locked_state() as state:
            return now(state)

    @app.post("/api/decline")
    def decline(body: Declined) -> dict[str, Any]:
        """No answer; the image is not asked again."""
        session.tell(
            body.question, DECLINED, person=body.person, seconds=body.seconds, image=body.image
        )
        with session.locked_state() as state:
            return now(state)

    @app.post("/api/leave")
    def leave(body: Leave) -> dict[str, Any]:
        """Give back the questions of a page that is closed."""
        session.leave(client_id=body.holder)
        with session.locked_state() as state:
            return now(state)

    @app.post("/api/undo")
    def undo(body: Undo) -> dict[str, Any]:
        """Take back the last answer or correction; an answer's question is asked once more."""
        again = session.undo(person=body.person, client_id=body.holder)
        with session.locked_state() as state:
            if isinstance(again, Question):
                return {
                    "question": _question(again, state, photos),
                    "image": again.image,
                    **now(state),
                }
            return {"question": None, "image": again, **now(state)}

    @app.post("/api/correct")
    def correct(body: Correction) -> dict[str, Any]:
        """Settle a label, whatever was answered."""
        session.correct(
            body.image, DECLINED if body.label is None else body.label, person=body.person
        )
        with session.locked_state() as state:
            return now(state)

    @app.post("/api/flag")
    def flag(body: Flag) -> dict[str, Any]:
        """Flag an image."""
        session.flag(body.image, body.note, raised=body.raised, person=body.person)
        with session.locked_state() as state:
            return now(state)

    @app.post("/api/classes")
    def add_class(body: NewClass) -> dict[str, Any]:
        """Add a class."""
        number = session.add_class(body.name, person=body.person)
        return {"class": number, "classes": session.classes, "store": photos.store}

    @app.post("/api/rename")
    def rename(body: Rename) -> dict[str, Any]:
        """Call a class otherwise."""
        session.rename_class(body.number, body.name, person=body.person)
        return {"classes": session.classes, "store": photos.store}


def _looking(
    app: FastAPI, session: Session, photos: Photos, training: Callable[[], str], here: bool
) -> None:
    """What people see."""

    @app.get("/api/progress")
    def look() -> Any:
        """How far it is."""
        with session.locked_state() as state:
            found = _with_json_keys(asdict(progress(state)))
            now = _now(state, photos)
            names = session.classes
        settings = session.settings
        more = {
            "names": names,
            "person": session.person if here else None,
            "folder": _plain(Path(settings.folder).name),
            "decoded": int(photos.ready().sum()),
            "training": training(),
            "strategy": settings.strategy,
            "batch": settings.batch,
            "first": settings.first,
        }
        return _finite(found | now | more)

    @app.get("/api/questions/{question}")
    def why(question: Annotated[int, Field(ge=0, lt=2**53)]) -> Any:
        """Why this image: what the network that chose it sees in it."""
        found = session.model_outputs.ranked_image(question)
        if found is None:
            return {"seen": None}
        twin = None if found.twin_predicted is None else photos.twin(question, found.image, "image")
        return _finite(
            {
                "seen": found.predicted,
                "other": found.runner_up,
                "score": found.score,
                "twin": twin is not None,
                "version": None if twin is None else twin.version,
                "twin_seen": found.twin_predicted,
                "strategy": session.settings.strategy,
            }
        )

    @app.get("/api/questions/{question}/{part}", responses=PICTURES, response_class=Response)
    def twin(
        question: Annotated[int, Field(ge=0, lt=2**53)],
        part: Literal["image", "change", "twin"],
        version: Version = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """The image as the network sees it, the change that deceives the network, magnified, or the
        twin."""
        queued = session.model_outputs.ranked_image(question)
        found = photos.twin(question, queued.image, part) if queued else None
        if found is None:
            raise NotFoundError(f"question {question} has no twin")
        return _sent(found, version, if_none_match)

    @app.get("/api/images/{image}", responses=PICTURES, response_class=Response)
    def image(
        image: Annotated[int, Field(ge=0, lt=2**53)],
        small: bool = False,
        version: Version = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """An image by its index."""
        session.check_image(image)
        return _sent(
            photos.thumbnail(image) if small else photos.original(image), version, if_none_match
        )

    @app.get("/api/set-aside")
    def set_aside() -> list[dict[str, Any]]:
        """The images that cannot be read, and why; the first thousand."""
        with session.locked_state() as state:
            found = list(state.unreadable.items())[:1000]
            return [
                {"image": image, "path": _plain(state.paths[image]), "reason": _plain(why)}
                for image, why in found
            ]

    @app.get("/api/review")
    def reviewed(  # noqa: PLR0917
        show: Literal[
            "labelled",
            "suspicious",
            "flagged",
            "declined",
            "disputed",
            "disagreed",
            "hold-out",
            "all",
        ] = "labelled",
        order: Literal["suspicious", "latest", "path"] = "suspicious",
        label: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
        text: Annotated[str, Query(max_length=200)] = "",
        start: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        most: Annotated[int, Query(ge=1, le=MAX_REVIEW_PAGE)] = 60,
    ) -> Any:
        """Labels to look at again."""
        found = asdict(
            review(session, show=show, order=order, label=label, text=text, start=start, most=most)
        )
        found["images"] = [
            _with_json_keys(row) | {"version": photos.version(row["image"]) or None}
            for row in found["images"]
        ]
        return _finite(found | {"store": photos.store})

    @app.get(
        "/api/export",
        responses={200: {"content": {"text/csv": {}}, "description": "the labels"}},
        response_class=Response,
    )
    def take_home() -> Response:
        """Every label as a row of a CSV file."""
        text = export.as_csv(export.labels(session))
        return Response(
            text.encode("utf-8", "replace"),
            media_type="text/csv",
            headers={"content-disposition": 'attachment; filename="labels.csv"'},
        )


def _question(question: Question, state: State, photos: Photos) -> dict[str, Any]:
    return {
        "id": question.id,
        "image": question.image,
        "version": photos.version(question.image) or None,
        "path": _plain(state.paths[question.image]),
        "kind": question.kind,
        "note": state.flags.get(question.image),
    }


def _now(state: State, photos: Photos) -> dict[str, Any]:
    """What each reply says, so that the page knows what has changed."""
    return {
        "answers": state.last_answer_id,
        "model": state.models[-1].id if state.models else 0,
        "left": state.left,
        "store": photos.store,
    }


JSON_KEYS = {
    "predicted": "seen",
    "confidence": "sure",
    "prelabelled": "known",
    "error": "trouble",
}
"""Field → its key in replies, where they differ."""


def _with_json_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields under the keys that replies have."""
    return {JSON_KEYS.get(name, name): value for name, value in fields.items()}


def _plain(text: str) -> str:
    """A text that JSON can hold: names of files may have bytes that are none of its letters."""
    return text.encode("utf-8", "replace").decode()


def _finite(value: Any) -> Any:
    """JSON knows no infinity: null says it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    return _plain(value) if isinstance(value, str) else value


def _sent(picture: Picture, version: str, if_none_match: str) -> Response:
    """A picture, to be kept only under an address that names its content."""
    if not picture.version:
        return Response(
            picture.content, media_type=picture.kind, headers={"cache-control": "no-store"}
        )
    kept = (
        f"private, max-age={KEPT}, immutable" if version == picture.version else "private, no-cache"
    )
    headers = {"cache-control": kept, "etag": f'"{picture.version}"'}
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if headers["etag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type=picture.kind, headers=headers)
