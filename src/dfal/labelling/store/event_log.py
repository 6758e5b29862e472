"""A labelling store, and the state that its rows come to: every process reads the rows that are new
before it adds its own."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dfal.labelling.store.records import Answer, Model, Question
from dfal.labelling.store.schema import LabelStore, Settings
from dfal.labelling.store.state import State
from dfal.labelling.store.turns import Turns
from dfal.labelling.validation import (
    check_class,
    check_index,
    check_label,
    check_name,
    check_path,
    check_seconds,
)
from dfal.storage import transaction

KINDS = frozenset({"strategy", "random", "hold-out", "vote"})
"""Why somebody is asked."""


class EventLog(LabelStore):
    """An open store. Threads take turns; other processes may read and write the same file.

    Attributes:
        state: what was true when the store was last looked at.
        last: how far each table was read.
    """

    def __init__(self, path: Path | str, clock: Callable[[], float], *, write: bool = True):
        super().__init__(path, write=write)
        self._clock = clock
        self._lock_of_threads = threading.RLock()
        self._turns = Turns(self.path)
        self._forget()
        try:
            with self.reading():
                pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, when no other thread is at it."""
        with self._lock_of_threads:
            super().close()
            self._turns.close()

    def select(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows, read by statements of dfal's own."""
        with self.reading():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def parsing(self) -> Iterator[None]:
        """Around the reading of what rows hold: what goes wrong there is damage."""
        with self._damage_errors():
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the store, and the state that belongs to it."""
        with self._lock_of_threads, self._sqlite_errors():
            if not self._db.in_transaction:
                self._follow()
            with transaction(self._db, "DEFERRED"):
                self.catch_up()
                yield

    @contextlib.contextmanager
    def adding(self, *, durable: bool = True) -> Iterator[Any]:
        """One transaction that begins by looking at what is new. Where it fails, the state is read
        again from the rows.

        Args:
            durable: whether to wait until it is on disk. A question need not be: the first answer
            that is takes it along.
        """
        with self._lock_of_threads, self._sqlite_errors(), self._turns.one():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            others = dict(self.last)  # how far the rows go that are on disk
            try:
                with self._adding() as db:
                    self.catch_up()
                    self.state.expire(self._clock())
                    others = dict(self.last)
                    yield db
                    self.catch_up()
            except BaseException:
                if self.last != others:
                    self._forget()
                raise

    def _forget(self) -> None:
        self.last: dict[str, int] = dict.fromkeys(_READ, 0)
        self.last["images"] = self.last["classes"] = -1
        self.state = State()

    def catch_up(self) -> None:
        """Give the state the rows that are new, of each table in its order."""
        try:
            for table, (key, columns, give) in _READ.items():
                new = f"SELECT {key}, {columns} FROM {table} WHERE {key} > ? ORDER BY {key}"
                found = self._db.execute(new, (self.last[table],)).fetchall()
                if found:
                    with self._damage_errors():
                        give(self, found)
                        self.last[table] = found[-1][0]
        except BaseException:
            self._forget()  # a part of the rows may have been given
            raise

    def _give_settings(self, rows: list[Any]) -> None:
        settings = Settings.from_dict(json.loads(rows[-1][1]))
        if settings.folder and settings.folder != self.state.settings.folder:
            for path in self.state.paths:
                check_path(path, settings.folder)
        self.state.set_settings(settings)

    def _give_classes(self, rows: list[Any]) -> None:
        for number, name in rows:
            check_class(name)
            if number != len(self.state.classes) or name in self.state.classes:
                raise ValueError(f"class {number} is there twice, or one before it is missing")
            self.state.classes.append(name)

    def _give_renamed(self, rows: list[Any]) -> None:
        for _, number, name in rows:
            check_index(number, len(self.state.classes))
            check_class(name)
            if name in self.state.classes:
                raise ValueError(f"two classes have the name {name}")
            self.state.rename(number, name)

    def _give_known(self, rows: list[Any]) -> None:
        for _, image, label in rows:
            check_index(image, len(self.state.paths))
            check_index(label, len(self.state.classes))
        self.state.add_known((image, label) for _, image, label in rows)

    def _give_images(self, rows: list[Any]) -> None:
        images = [(image, os.fsdecode(path), known) for image, path, known in rows]
        folder, classes = self.state.settings.folder, len(self.state.classes)
        for _, path, known in images:
            check_path(path, folder)
            if known is not None:
                check_index(known, classes)
        self.state.add_images(images)

    def _give_unreadable(self, rows: list[Any]) -> None:
        for _, image, reason in rows:
            check_index(image, len(self.state.paths))
            self.state.set_aside(image, reason)

    def _give_models(self, rows: list[Any]) -> None:
        images = len(self.state.paths)
        for row in rows:
            watched, seen = (
                np.frombuffer(row[7], np.int32).astype(np.int64),
                np.frombuffer(row[8], np.int16).astype(np.int64),
            )
            check_seconds(row[1], row[6])
            if (
                len(watched) != len(seen)
                or min((row[2], *row[3:6], *watched, *seen)) < -1
                or max(watched, default=0) >= images
            ):
                raise ValueError(f"network {row[0]} has images or counts that there cannot be")
            model = Model(row[0], row[1], row[2], row[3], row[4], row[5], row[6], watched, seen)
            if self.state.models and np.array_equal(self.state.models[-1].watched, watched):
                model = replace(model, watched=self.state.models[-1].watched)
            self.state.add_model(model, ())
        newest = "SELECT image, position FROM queue WHERE model = ? ORDER BY position"
        self.state.queue = self._db.execute(newest, (rows[-1][0],)).fetchall()
        for image, _ in self.state.queue:
            check_index(image, images)

    def _give_questions(self, rows: list[Any]) -> None:
        for row in rows:
            question = Question(*row)
            check_index(question.image, len(self.state.paths))
            check_name(question.person)
            check_name(question.client_id)
            check_seconds(question.at, question.until)
            if question.kind not in KINDS:
                raise ValueError(f"a question of the kind {question.kind[:20]!r}")
            self.state.add_question(question)

    def _give_returned(self, rows: list[Any]) -> None:
        for _, question in rows:
            self.state.close(question)

    def _give_answers(self, rows: list[Any]) -> None:
        for number, *row in rows:
            answer = Answer(*row)
            check_index(answer.image, len(self.state.paths))
            check_label(answer.label, len(self.state.classes))
            check_name(answer.person)
            check_seconds(answer.seconds)
            if answer.kind not in {"answer", "correction", "undo"}:
                raise ValueError(f"an answer of the kind {answer.kind[:20]!r}")
            self.state.add_answer(number, answer)

    def _give_flags(self, rows: list[Any]) -> None:
        for _, image, raised, text in rows:
            check_index(image, len(self.state.paths))
            if raised:
                self.state.flags[image] = text
            else:
                self.state.flags.pop(image, None)

    def _give_troubles(self, rows: list[Any]) -> None:
        self.state.error = rows[-1][1]


_READ: dict[str, tuple[str, str, Callable[[EventLog, list[Any]], None]]] = {
    "settings": ("number", "json", EventLog._give_settings),
    "classes": ("class", "name", EventLog._give_classes),
    "renamed": ("number", "class, name", EventLog._give_renamed),
    "images": ("image", "path, known", EventLog._give_images),
    "known": ("number", "image, class", EventLog._give_known),
    "unreadable": ("number", "image, reason", EventLog._give_unreadable),
    "set_aside": ("number", "image, reason", EventLog._give_unreadable),
    "models": (
        "model",
        "at, heard, annotations, labelled_data, classes, seconds, watched, seen",
        EventLog._give_models,
    ),
    "questions": (
        "question",
        "image, kind, model, position, person, holder, at, until",
        EventLog._give_questions,
    ),
    "returned": ("number", "question", EventLog._give_returned),
    "answers": (
        "answer",
        "kind, image, label, person, question, undone, seconds",
        EventLog._give_answers,
    ),
    "flags": ("flag", "image, raised, note", EventLog._give_flags),
    "troubles": ("trouble", "text", EventLog._give_troubles),
}
"""Every table that the state is made of: its key, its columns, and who takes its rows."""
