"""The operations of the API that only read: progress, reasons, pictures, the review, the labels."""

from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as PathParameter

from dfal.labelling.export import labels
from dfal.labelling.export.csv_table import as_csv
from dfal.labelling.learning.review import MAX_REVIEW_PAGE, Filter, Order, review
from dfal.labelling.photos import Picture
from dfal.labelling.store.checks import NotFoundError
from dfal.labelling.web.context import Page
from dfal.labelling.web.progress_reply import ProgressReply
from dfal.labelling.web.replies import (
    ReasonReply,
    ReviewedReply,
    ReviewReply,
    SetAsideReply,
)

MAX_SET_ASIDE = 1000
"""Unreadable images that are listed."""
PICTURE_SECONDS = 24 * 3600
"""Seconds for which a browser may keep a picture whose address names its content."""

PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/gif", "image/webp")},
        "description": "the picture; it may be kept where the address has its present version",
    },
    304: {"description": "the picture that `if-none-match` names"},
}
Id = Annotated[int, PathParameter(ge=0, lt=2**53)]
Version = Annotated[
    str,
    Query(max_length=64, description="names the picture's content, as replies about an image do"),
]
IfNoneMatch = Annotated[str, Header(include_in_schema=False)]

router = APIRouter(prefix="/api", tags=["looking"])


@router.get("/progress")
def progress(page: Page) -> ProgressReply:
    """Return how far the labelling is."""
    person = page.session.person if page.only_here else None
    return ProgressReply.of_session(
        page.session, page.photos, page.training(), page.final.reply(), person
    )


@router.get("/questions/{question}")
def reason(question: Id, page: Page) -> ReasonReply:
    """Return why an image was selected: what the model that selected it predicts for it."""
    ranked = page.session.model_outputs.ranked_image(question)
    twin = None
    if ranked is not None and ranked.twin_predicted is not None:
        twin = page.photos.twin(question, ranked.image, "image")
    with page.session.locked_state() as state:
        return ReasonReply.of(ranked, twin, state)


@router.get("/questions/{question}/{part}", responses=PICTURES, response_class=Response)
def twin_picture(
    question: Id,
    part: Literal["image", "change", "twin"],
    page: Page,
    version: Version = "",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Return the image as the model sees it, the magnified perturbation, or the twin.

    Raises:
        NotFoundError: if the question has no twin.
    """
    ranked = page.session.model_outputs.ranked_image(question)
    picture = page.photos.twin(question, ranked.image, part) if ranked else None
    if picture is None:
        raise NotFoundError(f"question {question} has no twin")
    return _picture_response(picture, version, if_none_match)


@router.get("/images/{image}", responses=PICTURES, response_class=Response)
def image_picture(
    image: Id,
    page: Page,
    small: bool = False,
    version: Version = "",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Return an image by its index."""
    page.session.check_image(image)
    picture = page.photos.thumbnail(image) if small else page.photos.original(image)
    return _picture_response(picture, version, if_none_match)


@router.get("/set-aside")
def set_aside(page: Page) -> list[SetAsideReply]:
    """Return the images that cannot be read, and why; at most the first thousand."""
    with page.session.locked_state() as state:
        return [
            SetAsideReply(image=image, path=state.paths[image], reason=why)
            for image, why in islice(state.unreadable.items(), MAX_SET_ASIDE)
        ]


@router.get("/review")
def labels_to_review(  # noqa: PLR0917
    page: Page,
    show: Filter = "labelled",
    order: Order = "suspicious",
    label: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    text: Annotated[str, Query(max_length=200)] = "",
    start: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    most: Annotated[int, Query(ge=1, le=MAX_REVIEW_PAGE)] = 60,
) -> ReviewReply:
    """Return images to check again, filtered and in an order."""
    found = review(
        page.session, show=show, order=order, label=label, text=text, start=start, most=most
    )
    return ReviewReply(
        images=[ReviewedReply.of(reviewed, page.photos) for reviewed in found.images],
        total=found.total,
        checked=found.checked,
        store=page.photos.store,
    )


@router.get(
    "/export",
    responses={200: {"content": {"text/csv": {}}, "description": "the labels"}},
    response_class=Response,
)
def labels_as_csv(page: Page) -> Response:
    """Return every label as a row of a CSV file."""
    text = as_csv(labels(page.session))
    return Response(
        text.encode("utf-8", "replace"),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="labels.csv"'},
    )


def _picture_response(picture: Picture, version: str, if_none_match: str) -> Response:
    """Return a picture, which may be kept only under an address that names its content."""
    if not picture.version:
        return Response(
            picture.content, media_type=picture.media_type, headers={"cache-control": "no-store"}
        )
    names_content = version == picture.version
    caching = f"max-age={PICTURE_SECONDS}, immutable" if names_content else "no-cache"
    headers = {"cache-control": f"private, {caching}", "etag": f'"{picture.version}"'}
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if headers["etag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type=picture.media_type, headers=headers)
