"""Ask, tell, decline, undo, flag and correct. An answer is on disk before the call returns.

>>> import tempfile, pathlib
>>> store = pathlib.Path(tempfile.mkdtemp()) / "labels.db"
>>> paths, classes = ["a.png", "b.png", "c.png"], ["cat", "dog"]
>>> with Session.start(store, Settings(), paths=paths, classes=classes) as session:
...     for question in session.ask(2):
...         session.tell(question, "dog")
...     session.classes, int((session.state.labels == 1).sum())
(['cat', 'dog'], 2)
"""

import contextlib
import getpass
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dfal.errors import DfalError
from dfal.labelling.names import class_names, note, person_name
from dfal.labelling.settings import Settings
from dfal.labelling.store.asking import next_questions, release_questions
from dfal.labelling.store.beginning import begin
from dfal.labelling.store.checks import (
    ConflictError,
    NotFoundError,
    check_image,
    is_whole_number,
)
from dfal.labelling.store.classes import add_class, class_number, rename_class
from dfal.labelling.store.event_log import EventLog
from dfal.labelling.store.model_outputs import ModelOutputs
from dfal.labelling.store.records import Answer, LastAnswer, Question
from dfal.labelling.store.state import State
from dfal.labelling.validation import check_path
from dfal.query import DECLINED, UNKNOWN

MAX_OPEN_QUESTIONS = 200
"""Questions that may be open at one place."""
MAX_ANSWER_SECONDS = 3600.0
"""Seconds on one image beyond which nobody looked at it all the time."""


class Session:
    """People or programs that label a folder of images, in any number of processes.

    Args:
        log: the open store: `Session.open` and `Session.start` open one.
        person: who answers, where a call does not say it.

    Attributes:
        person: who answers, where a call does not say it.
        client_id: of the questions that this session asks, where a call does not say it.
        model_outputs: what networks predict, and which images cannot be read.

    Raises:
        DfalError: for a file that is no store, of a newer version, not there, or not writable. A
            call that cannot write everything writes nothing.
    """

    def __init__(self, log: EventLog, person: str | None = None):
        self._log = log
        self.model_outputs = ModelOutputs(log)
        self.person = person_name(person or _user())
        self.client_id = uuid.uuid4().hex

    @property
    def state(self) -> State:
        """Return what was true when the store was last read: `refresh` reads it again."""
        return self._log.state

    @classmethod
    def open(
        cls,
        store: Path | str,
        *,
        person: str | None = None,
        clock: Callable[[], float] = time.time,
        write: bool = True,
    ) -> "Session":
        """Open a store that is there, beside whoever works on it now.

        Args:
            store: the file.
            person: who answers, where a call does not say it.
            clock: gives the time in seconds.
            write: whether to label, too. Without it the store may lie where nothing can be written.

        Raises:
            DfalError: where there is no store.
        """
        if not Path(store).exists():
            raise DfalError(f"there is no store {store}: start it with `dfal label FOLDER`")
        return cls(EventLog(store, clock, write=write), person)

    @classmethod
    def start(
        cls,
        store: Path | str,
        settings: Settings,
        paths: Sequence[str],
        classes: Sequence[str] = (),
        prelabelled: Mapping[str, str] | None = None,
        *,
        person: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> "Session":
        """Begin a store, or resume one with other settings, new images and new classes.

        Args:
            store: the file; it is made where there is none.
            settings: its seed and its hold-out are drawn from for good, and cannot be changed.
            paths: the images, each by a text that stays. Their places here are their indices in a
                new store.
            classes: their names, in order; a name that a class had before it was renamed stands for
                that class.
            prelabelled: path → class, for images that have a label already. It must be one of the
                classes.
            person: who answers, where a call does not say it.
            clock: gives the time in seconds.
        """
        names = class_names(classes)
        for path in paths:
            check_path(path, settings.folder)
        session = cls(EventLog(store, clock), person)
        try:
            begin(session._log, settings, paths, names, prelabelled or {}, person=session.person)
        except BaseException:
            session.close()
            raise
        return session

    def claim_page(self, url: str) -> None:
        """Make this the only page over this store; others may still label."""
        self._log.claim_page(url)

    def close(self) -> None:
        """Close the store; everything is on disk already.

        What was not answered is asked again when its time is over.
        """
        self._log.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Asking and telling.

    def ask(
        self,
        k: int = 1,
        *,
        person: str | None = None,
        client_id: str | None = None,
        keep: Sequence[int] = (),
    ) -> list[Question]:
        """Return the next k questions; fewer where fewer are left.

        They are this person's until their time is over.

        Args:
            k: how many, with those of `keep`.
            person: who is asked; by default the session's own.
            client_id: through which of their pages; by default the session's own.
            keep: open questions of this client that stay. Its others are released.

        Raises:
            DfalError: for a k that is out of range.
        """
        if not is_whole_number(k) or not 1 <= k <= MAX_OPEN_QUESTIONS:
            raise DfalError(
                f"k = {k!r} questions cannot be open at a time: ask for 1 to {MAX_OPEN_QUESTIONS}"
            )
        person, client_id = person_name(person or self.person), client_id or self.client_id
        with self._log.adding(durable=False) as transaction:
            return next_questions(transaction, self.state, k, person, client_id, keep=keep)

    def leave(self, *, client_id: str | None = None) -> None:
        """Release all questions of a client, by default the session's own: a page was closed."""
        with self._log.adding(durable=False) as transaction:
            release_questions(transaction, self.state, client_id or self.client_id)

    def tell(
        self,
        question: Question | int,
        label: int | str,
        *,
        person: str | None = None,
        seconds: float | None = None,
        image: int | None = None,
    ) -> None:
        """Answer a question. To tell it again, as after a lost connection, changes nothing.

        Args:
            question: what `ask` returned, or its id.
            label: a class, by name or number, or `DECLINED`.
            person: who answers; by default the session's own.
            seconds: how long somebody looked at the image.
            image: the image that was looked at, where only the question's id is given. After a
                power loss an id that was not on the disk yet is given to another image.

        Raises:
            NotFoundError: for a question or a class that is not there.
            ConflictError: where it was answered otherwise, or by others after its time was over.
        """
        person = person_name(person or self.person)
        id = question.id if isinstance(question, Question) else question
        looked_at = question.image if isinstance(question, Question) else image
        if not is_whole_number(id) or not 0 <= id < 2**63:
            raise NotFoundError(f"there is no question {id!r}: ask first")
        with self._log.adding() as transaction:
            id = int(id)
            stored = self._log.question(id)
            if stored is None:
                raise NotFoundError(f"there is no question {id}: ask first")
            if looked_at not in (None, stored.image):
                raise ConflictError(
                    f"question {id} is about image {stored.image}, not about image {looked_at}:"
                    " ask again"
                )
            if stored.person != person:
                raise ConflictError(
                    f"question {id} was put to {stored.person}, not to {person}: ask for one of"
                    " your own"
                )
            number = class_number(self.state, label)
            if self._is_told(id, number):
                return
            image = stored.image
            if self.state.labels[image] != UNKNOWN or person in self.state.votes.get(image, {}):
                raise ConflictError(
                    f"image {image} was answered meanwhile, as the time for question {id} was over:"
                    " continue with the next"
                )
            answer = Answer("answer", image, number, person, question=id)
            transaction.add_answer(replace(answer, seconds=_plausible(seconds)))

    def _is_told(self, question: int, label: int) -> bool:
        """Return whether a question has this answer already.

        Raises:
            ConflictError: where it has another one, or had one that was taken back.
        """
        answer = self._log.answer_to(question)
        if answer is None:
            return False
        if answer.is_undone:
            raise ConflictError(f"the answer to question {question} was taken back: ask again")
        if answer.label != label:
            raise ConflictError(
                f"question {question} was answered already: undo it, or correct it in the review"
            )
        return True

    def decline(
        self,
        question: Question | int,
        *,
        person: str | None = None,
        seconds: float | None = None,
        image: int | None = None,
    ) -> None:
        """Decline a question: its image is not queried again."""
        self.tell(question, DECLINED, person=person, seconds=seconds, image=image)

    def undo(self, *, person: str | None = None, client_id: str | None = None) -> Question | int:
        """Take back this person's last answer or correction.

        Args:
            person: who; by default the session's own.
            client_id: through which of their pages; by default the session's own.

        Returns:
            The question, asked once more, or the index of the image whose correction was taken
            back.

        Raises:
            ConflictError: where nothing is left to take back.
        """
        person, client_id = person_name(person or self.person), client_id or self.client_id
        with self._log.adding() as transaction:
            history = self.state.undo_history.get(person)
            if not history:
                raise ConflictError(f"{person} has no answer that could be taken back")
            last = history[-1]
            before = UNKNOWN if last.before is None else last.before
            transaction.add_answer(Answer("undo", last.image, before, person, undone=last.answer))
            stored = None if last.question is None else self._log.question(last.question)
            if stored is None or not self.state.may_ask(last.image, person):
                return last.image
            return transaction.add_question(
                replace(stored.choice, image=last.image), person, client_id
            )

    def correct(self, image: int, label: int | str, *, person: str | None = None) -> None:
        """Settle the label of an image, whatever was answered before.

        Args:
            image: its index.
            label: a class, by name or number, or `DECLINED`.
            person: who says so; by default the session's own.
        """
        with self._log.adding() as transaction:
            check_image(self.state, image)
            number, person = class_number(self.state, label), person_name(person or self.person)
            transaction.add_answer(Answer("correction", int(image), number, person))

    def flag(
        self, image: int, text: str = "", *, raised: bool = True, person: str | None = None
    ) -> None:
        """Put a flag with a note on an image, or take it off."""
        text, person = note(text), person_name(person or self.person)
        with self._log.adding() as transaction:
            check_image(self.state, image)
            transaction.add_flag(int(image), text, person, raised=raised)

    def add_class(self, name: str, *, person: str | None = None) -> int:
        """Add a class, and return its number."""
        with self._log.adding() as transaction:
            add_class(transaction, self.state, name, person_name(person or self.person))
            return len(self.state.classes) - 1

    def rename_class(self, label: int | str, name: str, *, person: str | None = None) -> None:
        """Give a class another name. Answers keep their class.

        Args:
            label: the class, by name or number.
            name: its new name.
            person: who says so; by default the session's own.

        Raises:
            NotFoundError: for a class that is not there.
        """
        with self._log.adding() as transaction:
            rename_class(transaction, self.state, label, name, person_name(person or self.person))

    def check_image(self, image: int) -> None:
        """Check that there is an image of this index.

        Raises:
            NotFoundError: where there is none.
        """
        check_image(self.state, image)

    # Looking.

    @property
    def path(self) -> Path:
        """Return the store's file."""
        return self._log.path

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes, by number."""
        return list(self.state.classes)

    @property
    def settings(self) -> Settings:
        """Return the settings that hold now."""
        return self.state.settings

    def refresh(self) -> State:
        """Read what others have added, and return what is true now."""
        with self._log.reading():
            return self.state

    def last_answers(self) -> dict[int, LastAnswer]:
        """Return for each image the latest answer, correction or undo about it."""
        return self._log.last_answers()

    def store_beginning(self) -> tuple[float, str]:
        """Return when the store was begun and with which settings, as JSON: they never change."""
        return self._log.beginning()

    @contextlib.contextmanager
    def locked_state(self) -> Iterator[State]:
        """Keep the state from changes by other threads of this process."""
        with self._log.reading():
            yield self.state


def _plausible(seconds: float | None) -> float | None:
    """Return how long somebody looked at an image; None where nobody looks for so long."""
    return seconds if seconds is not None and 0 <= seconds <= MAX_ANSWER_SECONDS else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # Windows has no module pwd
        return "me"
