"""The page and its HTTP API as one ASGI application."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from dfal.data.image_files import Unavailable
from dfal.errors import DfalError
from dfal.labelling.learning.training_process import TrainerStatus
from dfal.labelling.photos import Photos
from dfal.labelling.store.checks import ConflictError, NotFoundError
from dfal.labelling.store.session import Session
from dfal.labelling.web import answering, looking, training_final
from dfal.labelling.web.context import OtherStoreError, PageContext, check_store, context_of
from dfal.labelling.web.final_model import FinalModel
from dfal.labelling.web.replies import Refusal, printable

DESCRIPTION = """The page uses nothing else.

Every reply names the store, and every request may name it, as `?store=…`: a page that serves
another store refuses the request (412). An answer may name its image: if the question is about
another image, the answer is refused (409). Questions and rows of the review have the version of
their image: `/api/images/7?version=…` never changes and may be cached. Without a version, or with
an old one, the picture must be requested again.
"""
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": why, "model": Refusal}
    for code, why in {
        400: "the request makes no sense",
        401: "the token is missing",
        403: "another site sent the request",
        404: "there is no such thing",
        409: "not now: it was answered by somebody else, or nothing is left",
        412: "this page serves another store than the one that `store` names",
        413: "the request is too large",
        422: "the request does not follow this description",
        429: "too many requests",
        503: "an image cannot be read at the moment: try again",
        507: "the store cannot be written",
    }.items()
}
MAX_SENTENCE = 300
"""Characters of a refusal of a malformed request."""


def application(
    session: Session,
    photos: Photos,
    training: Callable[[], TrainerStatus] = TrainerStatus,
    final: FinalModel | None = None,
    *,
    here: bool = True,
) -> FastAPI:
    """Return the page and its API over one session.

    Args:
        session: of the store.
        photos: its images.
        training: returns what the trainer does now.
        final: trains the final model; by default none can be trained.
        here: whether only this machine's user can open the page, so that their name is known.
    """
    app = _api()
    app.state.page = PageContext(session, photos, training, final or FinalModel(None), here)
    app.mount("/", StaticFiles(directory=str(files("dfal.labelling.web") / "page"), html=True))
    return app


def openapi() -> dict[str, Any]:
    """Return the OpenAPI description, which a running page serves at /api/openapi.json."""
    return _api().openapi()


def _api() -> FastAPI:
    app = FastAPI(
        title="dfal label",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=REFUSALS,
        # a redirect would name this server, which visitors of a proxy cannot reach
        redirect_slashes=False,
        dependencies=[Depends(check_store)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_exception_handler(DfalError, _refuse)
    app.add_exception_handler(OtherStoreError, _refuse_other_store)
    app.add_exception_handler(RequestValidationError, _refuse_malformed)
    app.include_router(answering.router)
    app.include_router(looking.router)
    app.include_router(training_final.router)
    return app


def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Reply with the error's sentence and the status that tells the page what to do."""
    status = 400
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, ConflictError):
        status = 409
    elif isinstance(error, Unavailable):
        status = 503  # the page tries again
    elif error.__cause__ is not None:
        status = 507  # the disk or the database failed: the page keeps the answer
    return JSONResponse({"detail": printable(str(error))}, status)


def _refuse_other_store(request: Request, _: Exception) -> JSONResponse:
    page = context_of(request.app)
    folder = printable(Path(page.session.settings.folder).name)
    sentence = f"this page was opened over another store: reload it to label {folder}"
    return JSONResponse({"detail": sentence, "store": page.photos.store}, 412)


def _refuse_malformed(_: Request, error: Exception) -> JSONResponse:
    """Reply without repeating what was sent: it may be long, or no text that JSON can hold."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": printable(f"{where}: {first['msg']}"[:MAX_SENTENCE])}, 422)


if __name__ == "__main__":
    print(json.dumps(openapi(), indent=1))
