"""The session behind the page's API, as each operation receives it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request

from dfal.labelling.learning.training_process import TrainerStatus
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.labelling.web.final_model import FinalModel


@dataclass(frozen=True)
class PageContext:
    """What the operations of one page work on.

    Attributes:
        session: of the store.
        photos: its images.
        training: returns what the trainer does now.
        final: trains the final model.
        only_here: whether only this machine's user can open the page, so that their name is known.
    """

    session: Session
    photos: Photos
    training: Callable[[], TrainerStatus]
    final: FinalModel
    only_here: bool


class OtherStoreError(Exception):
    """A page that was opened over another store sent a request."""


def context_of(app: FastAPI) -> PageContext:
    """Return what `application` has put into the app."""
    context: PageContext = app.state.page
    return context


async def _context(request: Request) -> PageContext:
    return context_of(request.app)


Page = Annotated[PageContext, Depends(_context)]


async def check_store(
    page: Page,
    store: Annotated[str, Query(max_length=64, include_in_schema=False)] = "",
) -> None:
    """Refuse a request that names another store than the one that is open.

    Raises:
        OtherStoreError: if it does.
    """
    if store not in {"", page.photos.store}:
        raise OtherStoreError
