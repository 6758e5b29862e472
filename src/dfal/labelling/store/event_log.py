"""Read and write the rows of a labelling store, and keep the state that they come to.

A process reads the rows that are new before it adds its own.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dfal.labelling.settings import Settings
from dfal.labelling.store.records import (
    Answer,
    Choice,
    Judgement,
    LastAnswer,
    Model,
    Question,
    RankedImage,
    StoredAnswer,
    StoredQuestion,
)
from dfal.labelling.store.replay import TABLES
from dfal.labelling.store.schema import LabelStore
from dfal.labelling.store.state import State
from dfal.labelling.store.turns import Turns
from dfal.labelling.validation import check_index
from dfal.storage import transaction


class EventLog(LabelStore):
    """An open store. Threads take turns; other processes may read and write the same file.

    Args:
        path: the file.
        clock: gives the time in seconds.
        write: whether rows may be added.

    Attributes:
        state: what was true when the store was last read.
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

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep one view of the store, and the state that belongs to it."""
        with self._lock_of_threads, self._sqlite_errors():
            if not self._db.in_transaction:
                self._follow()
            with transaction(self._db, "DEFERRED"):
                self.catch_up()
                yield

    @contextlib.contextmanager
    def adding(self, *, durable: bool = True) -> Iterator["Transaction"]:
        """Begin a transaction, after reading what is new.

        Where it fails, the state is read again from the rows.

        Args:
            durable: whether to wait until it is on disk. A question need not be: the first answer
                that is takes it along.
        """
        with self._lock_of_threads, self._sqlite_errors(), self._turns.one():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            on_disk = dict(self._last)
            try:
                with self._adding() as db:
                    self.catch_up()
                    self.state.expire(self._clock())
                    on_disk = dict(self._last)
                    yield Transaction(self, db, self._clock)
                    self.catch_up()
            except BaseException:
                if self._last != on_disk:
                    self._forget()
                raise

    def _forget(self) -> None:
        self._last = dict.fromkeys(TABLES, 0)
        self._last["images"] = self._last["classes"] = -1
        self.state = State()

    def catch_up(self) -> None:
        """Give the state the rows that are new, of each table in its order."""
        try:
            for name, table in TABLES.items():
                rows = self._db.execute(
                    f"SELECT {table.key}, {table.columns} FROM {name} WHERE {table.key} > ?"
                    f" ORDER BY {table.key}",
                    (self._last[name],),
                ).fetchall()
                if rows:
                    with self._damage_errors():
                        table.replay(self.state, rows)
                        if name == "models":
                            self._read_queue(rows[-1][0])
                        self._last[name] = rows[-1][0]
        except BaseException:
            self._forget()  # some of the rows may have been given to the state
            raise

    def _read_queue(self, model: int) -> None:
        self.state.queue = self._db.execute(
            "SELECT image, position FROM queue WHERE model = ? ORDER BY position", (model,)
        ).fetchall()
        for image, _ in self.state.queue:
            check_index(image, len(self.state.paths))

    def _select(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock_of_threads, self._sqlite_errors():
            if self._db.in_transaction:
                return self._db.execute(sql, values).fetchall()
            with self.reading():
                return self._db.execute(sql, values).fetchall()

    # What the state does not keep.

    @property
    def is_new(self) -> bool:
        """Return whether the store has no settings yet."""
        return not self._last["settings"]

    def beginning(self) -> tuple[float, str]:
        """Return when the store was begun and with which settings, as JSON: they never change."""
        ((at, settings),) = self._select("SELECT at, json FROM settings ORDER BY number LIMIT 1")
        return at, settings

    def question(self, id: int) -> StoredQuestion | None:
        """Return a question, whether or not it is open; None where there is none."""
        rows = self._select(
            "SELECT image, person, kind, model, position FROM questions WHERE question = ?", (id,)
        )
        return StoredQuestion(*rows[0]) if rows else None

    def answer_to(self, question: int) -> StoredAnswer | None:
        """Return the answer to a question, None where there is none."""
        rows = self._select(
            "SELECT label, EXISTS (SELECT 1 FROM answers u WHERE u.undone = a.answer)"
            " FROM answers a WHERE question = ?",
            (question,),
        )
        return StoredAnswer(rows[0][0], bool(rows[0][1])) if rows else None

    def last_answers(self) -> dict[int, LastAnswer]:
        """Return for each image the latest answer, correction or undo about it."""
        rows = self._select("SELECT image, answer, person, at FROM answers ORDER BY answer")
        return {image: LastAnswer(*answer) for image, *answer in rows}

    def judgements(self) -> dict[int, Judgement]:
        """Return for each image that a network judged the latest judgement."""
        rows = self._select(
            "SELECT image, seen, sure, distance FROM looks"
            " WHERE look IN (SELECT max(look) FROM looks GROUP BY image)"
        )
        return {row[0]: Judgement(*row) for row in rows}

    def ranked_image(self, question: int) -> RankedImage | None:
        """Return a question's image as the network ranked it, without its twin.

        Returns:
            None where no network chose it.
        """
        rows = self._select(
            "SELECT q.image, q.score, q.seen, q.other, q.twin_seen FROM questions JOIN queue q"
            " USING (model, position) WHERE question = ?",
            (question,),
        )
        if not rows:
            return None
        image, score, predicted, runner_up, twin_predicted = rows[0]
        with self._damage_errors():
            check_index(image, len(self.state.paths))
            for label in (predicted, runner_up, twin_predicted):
                if label is not None:
                    check_index(label, len(self.state.classes))
        score = np.inf if score is None else score
        return RankedImage(image, score, predicted, runner_up, None, twin_predicted)

    def twin(self, question: int) -> Float[np.ndarray, "d"] | None:
        """Return the twin minus the image of a question, flat; None where there is none."""
        rows = self._select(
            "SELECT q.twin FROM questions JOIN queue q USING (model, position) WHERE question = ?"
            " AND q.twin IS NOT NULL",
            (question,),
        )
        with self._damage_errors():
            return _twin(rows[0][0]) if rows else None

    def twins(self) -> dict[int, Float[np.ndarray, "d"]]:
        """Return the twin minus the image, flat, of each image that is trained on with one."""
        rows = self._select(
            "SELECT a.image, q.twin FROM answers a JOIN questions USING (question) JOIN queue q"
            " USING (model, position) WHERE q.twin IS NOT NULL ORDER BY a.answer"
        )
        trained_on = self.state.trained_on
        with self._damage_errors():
            return {image: _twin(twin) for image, twin in rows if trained_on[image]}


class Transaction:
    """Rows that are added together.

    Classes, questions and answers are in the state at once, all else at the end of the transaction.

    Args:
        log: the open store.
        db: its connection, in a transaction.
        clock: gives the time in seconds.
    """

    def __init__(self, log: EventLog, db: Any, clock: Callable[[], float]):
        self._log, self._db, self._clock = log, db, clock

    def _insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Add rows, all with the same columns, and return the number of the last one."""
        rows = list(rows)
        if not rows:
            return 0
        columns = [*rows[0]]
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        values = [tuple(row.values()) for row in rows]
        if len(values) > 1:
            self._db.executemany(sql, values)
            return 0
        return int(self._db.execute(sql, values[0]).lastrowid)

    def add_settings(self, settings: Settings) -> None:
        """Add settings."""
        text = json.dumps(settings.to_dict(), sort_keys=True)
        self._insert("settings", [{"at": self._clock(), "json": text}])

    def add_class(self, name: str, person: str) -> None:
        """Add a class."""
        row = {"class": len(self._log.state.classes), "name": name, "person": person}
        self._insert("classes", [row | {"at": self._clock()}])
        self._log.catch_up()

    def rename_class(self, number: int, name: str, person: str) -> None:
        """Give a class another name."""
        row = {"class": number, "name": name, "person": person, "at": self._clock()}
        self._insert("renamed", [row])

    def add_images(self, images: Iterable[tuple[str, int | None]]) -> None:
        """Add images, each a path and the label that it came with."""
        first = len(self._log.state.paths)
        self._insert(
            "images",
            (
                {"image": image, "path": os.fsencode(path), "known": label}
                for image, (path, label) in enumerate(images, first)
            ),
        )

    def add_prelabels(self, labels: Mapping[int, int]) -> None:
        """Add labels, image → class, that images turned out to have."""
        at = self._clock()
        rows = ({"image": image, "class": label, "at": at} for image, label in labels.items())
        self._insert("known", rows)

    def add_question(self, choice: Choice, person: str, client_id: str) -> Question:
        """Ask a person about an image, until the lease is over."""
        now = self._clock()
        id = self._insert(
            "questions",
            [
                {
                    "image": choice.image,
                    "kind": choice.kind,
                    "model": choice.model,
                    "position": choice.position,
                    "person": person,
                    "holder": client_id,
                    "at": now,
                    "until": now + self._log.state.settings.lease,
                }
            ],
        )
        self._log.catch_up()
        return self._log.state.open[id]

    def release(self, question: Question) -> None:
        """Release a question, so that others may label its image."""
        self._insert("returned", [{"question": question.id, "at": self._clock()}])
        self._log.catch_up()

    def add_answer(self, answer: Answer) -> None:
        """Add an answer, a correction or an undo."""
        self._insert("answers", [asdict(answer) | {"at": self._clock()}])
        self._log.catch_up()

    def add_flag(self, image: int, note: str, person: str, *, raised: bool) -> None:
        """Put a flag on an image or take it off."""
        row = {"image": image, "raised": int(raised), "note": note, "person": person}
        self._insert("flags", [row | {"at": self._clock()}])

    def add_model(self, model: Model, queue: Sequence[RankedImage]) -> None:
        """Add a network and its ranking."""
        self._insert(
            "models",
            [
                {
                    "model": model.id,
                    "at": model.at,
                    "heard": model.last_answer_id,
                    "annotations": model.annotations,
                    "labelled_data": model.labelled_data,
                    "classes": model.classes,
                    "seconds": model.seconds,
                    "watched": model.watched.astype(np.int32).tobytes(),
                    "seen": model.predicted.astype(np.int16).tobytes(),
                }
            ],
        )
        self._insert(
            "queue",
            (
                {
                    "model": model.id,
                    "position": position,
                    "image": ranked.image,
                    "score": ranked.score if np.isfinite(ranked.score) else None,
                    "seen": ranked.predicted,
                    "other": ranked.runner_up,
                    "twin_seen": ranked.twin_predicted,
                    "twin": None if ranked.twin is None else ranked.twin.half().numpy().tobytes(),
                }
                for position, ranked in enumerate(queue)
            ),
        )

    def add_learner(self, backbone: str, why: str) -> None:
        """Add what the next networks learn from, and why."""
        model = len(self._log.state.models) + 1
        row = {"backbone": backbone, "why": why, "model": model, "at": self._clock()}
        self._insert("learners", [row])

    def add_coverage(self, images: Sequence[int]) -> None:
        """Add a ranking of images to query before there is a network."""
        ranking = self._log.state.coverage_ranking + 1
        self._insert("coverage", ({"ranking": ranking, "image": image} for image in images))

    def add_judgements(self, model: int, judgements: Sequence[Judgement]) -> None:
        """Add what networks that were not trained on some images predict for them."""
        self._insert(
            "looks",
            (
                {
                    "model": model,
                    "image": judgement.image,
                    "seen": judgement.predicted,
                    "sure": judgement.confidence,
                    "distance": judgement.distance,
                }
                for judgement in judgements
            ),
        )

    def add_error(self, text: str) -> None:
        """Add why training failed, or an empty text where it did not."""
        self._insert("troubles", [{"text": text, "at": self._clock()}])

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """Set images aside, image → reason, or restore those without a reason."""
        at = self._clock()
        rows = ({"image": image, "reason": reason, "at": at} for image, reason in reasons.items())
        self._insert("set_aside", rows)


def _twin(stored: bytes) -> Float[np.ndarray, "d"]:
    """Return a twin minus its image from how it is stored.

    Raises:
        ValueError: for one with values that are not numbers.
    """
    change: Float[np.ndarray, d] = np.frombuffer(stored, dtype=np.float16).astype(np.float32)
    if np.isnan(change).any():
        raise ValueError("a twin has values that are not numbers")
    return change
