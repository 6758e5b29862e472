"""The operations of the API by which people ask for questions, answer, correct and flag."""

from fastapi import APIRouter

from dfal.labelling.store.records import Question
from dfal.labelling.web.context import Page, PageContext
from dfal.labelling.web.replies import (
    AskReply,
    ClassesReply,
    NewClassReply,
    QuestionReply,
    StatusReply,
    UndoReply,
    status_keys,
)
from dfal.labelling.web.requests import (
    AnswerRequest,
    AskRequest,
    ClientRequest,
    CorrectionRequest,
    DeclineRequest,
    FlagRequest,
    NewClassRequest,
    RenameRequest,
)
from dfal.query import DECLINED

router = APIRouter(prefix="/api", tags=["answering"])


def _status(page: PageContext) -> StatusReply:
    with page.session.locked_state() as state:
        return StatusReply(**status_keys(state, page.photos))


@router.post("/ask")
def ask(body: AskRequest, page: Page) -> AskReply:
    """Return the next questions, which are this page's until their lease ends."""
    asked = page.session.ask(
        body.count, person=body.person, client_id=body.client_id, keep=body.keep
    )
    with page.session.locked_state() as state:
        questions = [QuestionReply.of(question, state, page.photos) for question in asked]
        return AskReply(questions=questions, **status_keys(state, page.photos))


@router.post("/tell")
def tell(body: AnswerRequest, page: Page) -> StatusReply:
    """Store an answer. It is on the disk when the reply comes; a repeated answer counts once."""
    page.session.tell(
        body.question, body.label, person=body.person, seconds=body.seconds, image=body.image
    )
    return _status(page)


@router.post("/decline")
def decline(body: DeclineRequest, page: Page) -> StatusReply:
    """Skip a question. Its image is not asked again."""
    page.session.tell(
        body.question, DECLINED, person=body.person, seconds=body.seconds, image=body.image
    )
    return _status(page)


@router.post("/leave")
def leave(body: ClientRequest, page: Page) -> StatusReply:
    """Release the questions of a page that is being closed."""
    page.session.leave(client_id=body.client_id)
    return _status(page)


@router.post("/undo")
def undo(body: ClientRequest, page: Page) -> UndoReply:
    """Take back the person's last answer or correction. A question is asked again."""
    undone = page.session.undo(person=body.person, client_id=body.client_id)
    with page.session.locked_state() as state:
        if isinstance(undone, Question):
            question = QuestionReply.of(undone, state, page.photos)
            image = undone.image
        else:
            question, image = None, undone
        return UndoReply(question=question, image=image, **status_keys(state, page.photos))


@router.post("/correct")
def correct(body: CorrectionRequest, page: Page) -> StatusReply:
    """Set the label of an image, whatever was answered before."""
    label = DECLINED if body.label is None else body.label
    page.session.correct(body.image, label, person=body.person)
    return _status(page)


@router.post("/flag")
def flag(body: FlagRequest, page: Page) -> StatusReply:
    """Flag an image, or remove its flag."""
    page.session.flag(body.image, body.note, raised=body.raised, person=body.person)
    return _status(page)


@router.post("/classes")
def add_class(body: NewClassRequest, page: Page) -> NewClassReply:
    """Add a class."""
    index = page.session.add_class(body.name, person=body.person)
    return NewClassReply(index=index, classes=page.session.classes, store=page.photos.store)


@router.post("/rename")
def rename_class(body: RenameRequest, page: Page) -> ClassesReply:
    """Rename a class. Its labels stay."""
    page.session.rename_class(body.index, body.name, person=body.person)
    return ClassesReply(classes=page.session.classes, store=page.photos.store)
