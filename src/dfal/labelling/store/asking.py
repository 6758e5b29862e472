"""Choose the next questions of a person, and release those of a page."""

from collections.abc import Sequence

from dfal.labelling.store.event_log import Transaction
from dfal.labelling.store.records import Choice, Question
from dfal.labelling.store.state import State


def next_questions(
    transaction: Transaction,
    state: State,
    k: int,
    person: str,
    client_id: str,
    *,
    keep: Sequence[int],
) -> list[Question]:
    """Return k open questions of a person; fewer where fewer are left.

    Args:
        transaction: in which questions are added and released.
        state: what is true now.
        k: how many, with those of `keep`.
        person: who answers them.
        client_id: through which of their pages.
        keep: numbers of this client's open questions that stay. Its others are released.
    """
    kept: list[Question] = []
    for question in _open_questions(state, client_id):
        if question.id in keep and question.person == person and len(kept) < k:
            kept.append(question)
        else:
            transaction.release(question)
    while len(kept) < k:
        choice = state.next_for(person) or _from_elsewhere(transaction, state, person, client_id)
        if choice is None:
            break
        kept.append(transaction.add_question(choice, person, client_id))
    return kept


def release_questions(transaction: Transaction, state: State, client_id: str) -> None:
    """Release all open questions of a client."""
    for question in _open_questions(state, client_id):
        transaction.release(question)


def _open_questions(state: State, client_id: str) -> list[Question]:
    return [question for question in state.open.values() if question.client_id == client_id]


def _from_elsewhere(
    transaction: Transaction, state: State, person: str, client_id: str
) -> Choice | None:
    """Release a question of this person's other pages, and return its image.

    Such a page may have been closed. None where there is none.
    """
    for question in state.open.values():
        if question.person == person and question.client_id != client_id:
            transaction.release(question)
            return Choice(question.image, question.kind, question.model, question.position)
    return None
