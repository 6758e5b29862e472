"""Session: ask, tell, decline, undo, flag, correct. An answer is on disk before the call returns.

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
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dfal.data.scan import nfc
from dfal.errors import DfalError
from dfal.labelling.names import class_name, class_names, note, person_name, shown
from dfal.labelling.store.event_log import EventLog
from dfal.labelling.store.model_outputs import ModelOutputs
from dfal.labelling.store.records import Answer, Choice, Question
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.state import State
from dfal.labelling.validation import check_path
from dfal.query import DECLINED, UNKNOWN

MAX_OPEN_QUESTIONS = 200
"""Questions that may be open at one place."""
MAX_ANSWER_SECONDS = 3600.0
"""Seconds on one image beyond which nobody looked at it all the time."""


class ConflictError(DfalError):
    """What was asked for is right as such, but not now: it was answered meanwhile, there is nothing
    left, …"""


class NotFoundError(DfalError):
    """There is no such question, image or class."""


class Session:
    """People, or programs, that label one folder of images: as many as there are, in as many
    processes, on one store.

    Args:
        log: the open store: `Session.open` and `Session.start` open one.
        person: who answers, where a call does not say it.
        clock: gives the time in seconds.

    Raises:
        DfalError: for a file that is no store, of a newer version, not there, or not writable.
        Whatever cannot be written
            is not half written: the call raises, and nothing has changed.
    """

    def __init__(
        self, log: EventLog, person: str | None = None, clock: Callable[[], float] = time.time
    ):
        self._log, self._clock = log, clock
        self.model_outputs = ModelOutputs(log, clock)
        self.person = person_name(person or _user())
        self.client_id = uuid.uuid4().hex

    @property
    def state(self) -> State:
        """What was true when the store was last looked at: `refresh` looks again."""
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
        """
        if not Path(store).exists():
            raise DfalError(f"there is no store {store}: start it with `dfal label FOLDER`")
        return cls(EventLog(store, clock, write=write), person, clock)

    @classmethod
    def start(
        cls,
        store: Path | str,
        settings: Settings,
        paths: Sequence[str],
        classes: Sequence[str] = (),
        known: Mapping[str, str] | None = None,
        *,
        person: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> "Session":
        """Begin a store, or go on with one: other settings hold from now on, and images and classes
        that are new are added.

        Args:
            store: the file; it is made where there is none.
            settings: its seed and its hold-out are drawn from for good, and cannot be changed.
            paths: the images, each by a text that stays. Their places here are their indices in a
            new store.
            classes: their names, in order; a name that a class had before it was renamed stands for
            that class.
            known: path → class, for images that have a label already. It must be one of the
            classes.
        """
        names = class_names(classes)
        for path in paths:
            check_path(path, settings.folder)
        session = cls(EventLog(store, clock), person, clock)
        try:
            session._begin(settings, paths, names, known or {})
        except BaseException:
            session.close()
            raise
        return session

    def _begin(
        self,
        settings: Settings,
        paths: Sequence[str],
        names: Sequence[str],
        known: Mapping[str, str],
    ) -> None:
        now = self._clock()
        with self._log.adding() as db:
            held, new = self.state.settings, not self._log.last["settings"]
            for name in ("seed", "holdout") if not new else ():
                if getattr(settings, name) != getattr(held, name):
                    raise DfalError(
                        f"{self._log.path} was begun with {name} = {getattr(held, name)}, which"
                        " cannot be changed: leave it out, or name another --store"
                    )
            if new or settings != held:
                row = (now, json.dumps(settings.to_dict(), sort_keys=True))
                db.execute("INSERT INTO settings (at, json) VALUES (?, ?)", row)
            for name in names:
                if name not in self.state.classes and name not in self.state.former:
                    self._add_class(db, name, self.person)
            place = self.state.former | {
                name: number for number, name in enumerate(self.state.classes)
            }
            there, first = (
                {path: image for image, path in enumerate(self.state.paths)},
                len(self.state.paths),
            )
            late = [
                (there[path], place[name], now)
                for path, name in known.items()
                if self._is_open(there.get(path))
            ]
            db.executemany("INSERT INTO known (image, class, at) VALUES (?, ?, ?)", late)
            added = [path for path in paths if path not in there]
            rows = (
                (first + i, os.fsencode(path), place[known[path]] if path in known else None)
                for i, path in enumerate(added)
            )
            db.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)

    def _is_open(self, image: int | None) -> bool:
        """Whether nobody has said anything about the image yet, and it came without a label."""
        return (
            image is not None
            and bool(self.state.labels[image] == UNKNOWN)
            and image not in self.state.votes
        )

    def claim_page(self, url: str) -> None:
        """Be the only page over this store, at this address; other processes may still label."""
        self._log.claim_page(url)

    def close(self) -> None:
        """Close the store; everything is on disk already. What was not answered is asked again when
        its time is over."""
        self._log.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """The next k questions: fewer where fewer are left. They are this person's until their time
        is over.

        Args:
            k: how many, with those of `keep`.
            person, holder: who is asked, and through which of their pages; by default the session's
            own.
            keep: open questions of this holder that stay. Its others are given back.
        """
        if not _is_number(k) or not 1 <= k <= MAX_OPEN_QUESTIONS:
            raise DfalError(
                f"k = {k!r} questions cannot be open at a time: ask for 1 to {MAX_OPEN_QUESTIONS}"
            )
        person, client_id = person_name(person or self.person), client_id or self.client_id
        with self._log.adding(durable=False) as db:
            mine = [
                question for question in self.state.open.values() if question.client_id == client_id
            ]
            kept = [
                question for question in mine if question.id in keep and question.person == person
            ][:k]
            for question in mine:
                if question not in kept:
                    self._give_back(db, question)
            while len(kept) < k:
                choice = self.state.next_for(person) or self._from_elsewhere(db, person, client_id)
                if choice is None:
                    break
                kept.append(self._add_question(db, choice, person, client_id))
        return kept

    def _from_elsewhere(self, db: Any, person: str, client_id: str) -> Choice | None:
        """Where nothing else is left: a question of this person's in another page, which may have
        been closed."""
        for question in self.state.open.values():
            if question.person == person and question.client_id != client_id:
                self._give_back(db, question)
                return Choice(question.image, question.kind, question.model, question.position)
        return None

    def _give_back(self, db: Any, question: Question) -> None:
        db.execute(
            "INSERT INTO returned (question, at) VALUES (?, ?)", (question.id, self._clock())
        )
        self._log.catch_up()

    def _add_question(self, db: Any, choice: Choice, person: str, client_id: str) -> Question:
        now = self._clock()
        row = (*astuple(choice), person, client_id, now, now + self.state.settings.lease)
        done = db.execute(
            "INSERT INTO questions (image, kind, model, position, person, holder, at, until) VALUES"
            " (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._log.catch_up()
        return self.state.open[done.lastrowid]

    def leave(self, *, client_id: str | None = None) -> None:
        """Give back all questions of a holder, by default the session's own: a page was closed."""
        client_id = client_id or self.client_id
        with self._log.adding(durable=False) as db:
            for question in [
                question for question in self.state.open.values() if question.client_id == client_id
            ]:
                self._give_back(db, question)

    def tell(
        self,
        question: Question | int,
        label: int | str,
        *,
        person: str | None = None,
        seconds: float | None = None,
        image: int | None = None,
    ) -> None:
        """The answer to a question. To tell it again, as after a lost connection, changes nothing.

        Args:
            question: what `ask` gave, or its id.
            label: a class, by name or number, or `DECLINED`.
            seconds: how long somebody looked at the image.
            image: the image that was looked at, where only the question's id is given. After a
                power loss an id that was not on the disk yet is given to another image.

        Raises:
            Missing: for a question or a class that is not there.
            Refused: where it was answered otherwise, or by others after its time was over.
        """
        person = person_name(person or self.person)
        id = question.id if isinstance(question, Question) else question
        looked_at = question.image if isinstance(question, Question) else image
        if not _is_number(id) or not 0 <= id < 2**63:
            raise NotFoundError(f"there is no question {id!r}: ask first")
        with self._log.adding() as db:
            id = int(id)
            row = db.execute(
                "SELECT image, person FROM questions WHERE question = ?", (id,)
            ).fetchone()
            if row is None:
                raise NotFoundError(f"there is no question {id}: ask first")
            image, asked = row
            if looked_at not in (None, image):
                raise ConflictError(
                    f"question {id} is about image {image}, not about image {looked_at}: ask again"
                )
            if asked != person:
                raise ConflictError(
                    f"question {id} was put to {asked}, not to {person}: ask for one of your own"
                )
            number = self._label(label)
            undone = "EXISTS (SELECT 1 FROM answers u WHERE u.undone = a.answer)"
            told = db.execute(
                f"SELECT label, {undone} FROM answers a WHERE question = ?", (id,)
            ).fetchone()
            if told is not None:
                if told[1]:
                    raise ConflictError(f"the answer to question {id} was taken back: ask again")
                if told[0] == number:
                    return
                raise ConflictError(
                    f"question {id} was answered already: undo it, or correct it in the review"
                )
            if self.state.labels[image] != UNKNOWN or person in self.state.votes.get(image, {}):
                raise ConflictError(
                    f"image {image} was answered meanwhile, as the time for question {id} was over:"
                    " go on with the next"
                )
            self._add_answer(
                db, Answer("answer", image, number, person, question=id, seconds=seconds)
            )

    def decline(
        self,
        question: Question | int,
        *,
        person: str | None = None,
        seconds: float | None = None,
        image: int | None = None,
    ) -> None:
        """No answer: this image is not asked again."""
        self.tell(question, DECLINED, person=person, seconds=seconds, image=image)

    def undo(self, *, person: str | None = None, client_id: str | None = None) -> Question | int:
        """Take back this person's last answer or correction.

        Returns: The question, asked once more, or the index of the image whose correction was taken
            back.

        Raises:
            Refused: where nothing is left to take back.
        """
        person, client_id = person_name(person or self.person), client_id or self.client_id
        with self._log.adding() as db:
            history = self.state.undo_history.get(person)
            if not history:
                raise ConflictError(f"{person} has no answer that could be taken back")
            given = history[-1]
            before = UNKNOWN if given.before is None else given.before
            self._add_answer(db, Answer("undo", given.image, before, person, undone=given.answer))
            if given.question is None or not self.state.may_ask(given.image, person):
                return given.image
            asked = db.execute(
                "SELECT kind, model, position FROM questions WHERE question = ?", (given.question,)
            )
            return self._add_question(db, Choice(given.image, *asked.fetchone()), person, client_id)

    def correct(self, image: int, label: int | str, *, person: str | None = None) -> None:
        """Settle the label of an image, whatever was answered before: a class, by name or number,
        or `DECLINED`."""
        with self._log.adding() as db:
            self.check_image(image)
            self._add_answer(
                db,
                Answer(
                    "correction", int(image), self._label(label), person_name(person or self.person)
                ),
            )

    def flag(
        self, image: int, text: str = "", *, raised: bool = True, person: str | None = None
    ) -> None:
        """Put a flag with a note on an image, or take it off."""
        said, who = note(text), person_name(person or self.person)
        with self._log.adding() as db:
            self.check_image(image)
            row = (int(image), int(raised), said, who, self._clock())
            db.execute(
                "INSERT INTO flags (image, raised, note, person, at) VALUES (?, ?, ?, ?, ?)", row
            )

    def add_class(self, name: str, *, person: str | None = None) -> int:
        """A new class; its number."""
        with self._log.adding() as db:
            self._add_class(db, name, person_name(person or self.person))
            return len(self.state.classes) - 1

    def rename_class(self, label: int | str, name: str, *, person: str | None = None) -> None:
        """Call a class otherwise from now on. Answers keep their class."""
        with self._log.adding() as db:
            number = self._label(label)
            if number == DECLINED:
                raise NotFoundError("DECLINED is no class that could be renamed")
            tidy = class_name(
                name, [other for place, other in enumerate(self.state.classes) if place != number]
            )
            row = (number, tidy, person_name(person or self.person), self._clock())
            db.execute("INSERT INTO renamed (class, name, person, at) VALUES (?, ?, ?, ?)", row)

    def _add_class(self, db: Any, name: str, person: str) -> None:
        tidy = class_name(name, self.state.classes)
        if (number := self.state.former.get(tidy)) is not None:
            raise ConflictError(
                f"{tidy!r} was renamed to {self.state.classes[number]!r}: give that class its name"
                " back, or take another"
            )
        db.execute(
            "INSERT INTO classes VALUES (?, ?, ?, ?)",
            (len(self.state.classes), tidy, person, self._clock()),
        )
        self._log.catch_up()

    def _add_answer(self, db: Any, answer: Answer) -> None:
        if answer.seconds is not None and not 0 <= answer.seconds <= MAX_ANSWER_SECONDS:
            answer = replace(answer, seconds=None)
        names = "kind, image, label, person, question, undone, seconds, at"
        db.execute(
            f"INSERT INTO answers ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*astuple(answer), self._clock()),
        )
        self._log.catch_up()

    def _label(self, label: int | str) -> int:
        classes = self.state.classes
        if isinstance(label, str):
            label = next((name for name in classes if nfc(name) == nfc(label)), label)
            if label not in classes:
                raise NotFoundError(
                    f"there is no class {shown(label)}: add it first"
                    + f", or give one of {', '.join(classes[:20])}"
                )
            return classes.index(label)
        if not _is_number(label) or (label != DECLINED and not 0 <= label < len(classes)):
            raise NotFoundError(
                f"there is no class {label!r}: there are {len(classes)}, numbered from 0; DECLINED"
                f" is {DECLINED}"
            )
        return int(label)

    def check_image(self, image: int) -> None:
        """Raise unless there is an image of this index."""
        if not _is_number(image) or not 0 <= image < len(self.state.paths):
            raise NotFoundError(
                f"there is no image {image!r}: there are {len(self.state.paths)}, numbered from 0"
            )

    # Looking.

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._log.path

    @property
    def classes(self) -> list[str]:
        """Their names, by number."""
        return list(self.state.classes)

    @property
    def settings(self) -> Settings:
        """Those that hold now."""
        return self.state.settings

    def refresh(self) -> State:
        """What is true now, also by what others have added."""
        with self._log.reading():
            return self.state

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the store, read by statements of dfal's own."""
        return self._log.select(sql, values)

    @contextlib.contextmanager
    def locked_state(self) -> Iterator[State]:
        """The state, while nobody else changes it in this process."""
        with self._log.reading():
            yield self.state


def _is_number(value: object) -> bool:
    """Whether this is a whole number, NumPy's too; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # Windows has no module pwd
        return "me"
