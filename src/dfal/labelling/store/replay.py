"""Check rows of a labelling store, which others may have written, and give them to the state."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dfal.labelling.settings import Settings
from dfal.labelling.store.records import Answer, LearnerChoice, Model, Question
from dfal.labelling.store.state import State
from dfal.labelling.validation import (
    check_class,
    check_index,
    check_label,
    check_name,
    check_path,
    check_seconds,
)

QUESTION_KINDS = frozenset({"strategy", "coverage", "random", "hold-out", "vote"})
ANSWER_KINDS = frozenset({"answer", "correction", "undo"})

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Table:
    """A table that the state is made of.

    Attributes:
        key: the column that its rows are ordered by.
        columns: those that are read, after the key.
        replay: checks rows and gives them to the state; raises ValueError where they are damaged.
    """

    key: str
    columns: str
    replay: Callable[[State, Rows], None]


def _settings(state: State, rows: Rows) -> None:
    settings = Settings.from_dict(json.loads(rows[-1][1]))
    if settings.folder and settings.folder != state.settings.folder:
        for path in state.paths:
            check_path(path, settings.folder)
    state.set_settings(settings)


def _classes(state: State, rows: Rows) -> None:
    for number, name in rows:
        check_class(name)
        if number != len(state.classes) or name in state.classes:
            raise ValueError(f"class {number} is there twice, or one before it is missing")
        state.classes.append(name)


def _renamed(state: State, rows: Rows) -> None:
    for _, number, name in rows:
        check_index(number, len(state.classes))
        check_class(name)
        if name in state.classes:
            raise ValueError(f"two classes have the name {name}")
        state.rename(number, name)


def _images(state: State, rows: Rows) -> None:
    images = [(image, os.fsdecode(path), label) for image, path, label in rows]
    for _, path, label in images:
        check_path(path, state.settings.folder)
        if label is not None:
            check_index(label, len(state.classes))
    state.add_images(images)


def _prelabels(state: State, rows: Rows) -> None:
    for _, image, label in rows:
        check_index(image, len(state.paths))
        check_index(label, len(state.classes))
    state.add_prelabels((image, label) for _, image, label in rows)


def _set_aside(state: State, rows: Rows) -> None:
    for _, image, reason in rows:
        check_index(image, len(state.paths))
        state.set_aside(image, reason)


def _models(state: State, rows: Rows) -> None:
    for *fields, watched, predicted in rows:
        arrays = (np.frombuffer(watched, np.int32), np.frombuffer(predicted, np.int16))
        model = Model(*fields, *(array.astype(np.int64) for array in arrays))
        check_seconds(model.at, model.seconds)
        counts = (model.last_answer_id, model.annotations, model.labelled_data, model.classes)
        if (
            len(model.watched) != len(model.predicted)
            or min((*counts, *model.watched, *model.predicted)) < -1
            or max(model.watched, default=0) >= len(state.paths)
        ):
            raise ValueError(f"network {model.id} has images or counts that there cannot be")
        if state.models and np.array_equal(state.models[-1].watched, model.watched):
            model = replace(model, watched=state.models[-1].watched)  # one array in memory
        state.add_model(model, ())


def _learners(state: State, rows: Rows) -> None:
    for _, backbone, why, model, at in rows:
        check_name(backbone)
        check_seconds(at)
        state.learner = LearnerChoice(model, backbone, why, at)


def _coverage(state: State, rows: Rows) -> None:
    latest = rows[-1][1]
    for _, _, image in rows:
        check_index(image, len(state.paths))
    if latest != state.coverage_ranking:
        state.coverage_ranking, state.coverage = latest, []
    state.coverage += [image for _, ranking, image in rows if ranking == latest]


def _questions(state: State, rows: Rows) -> None:
    for row in rows:
        question = Question(*row)
        check_index(question.image, len(state.paths))
        check_name(question.person)
        check_name(question.client_id)
        check_seconds(question.at, question.until)
        if question.kind not in QUESTION_KINDS:
            raise ValueError(f"a question of the kind {question.kind[:20]!r}")
        state.add_question(question)


def _released(state: State, rows: Rows) -> None:
    for _, question in rows:
        state.close(question)


def _answers(state: State, rows: Rows) -> None:
    for id, *fields in rows:
        answer = Answer(*fields)
        check_index(answer.image, len(state.paths))
        check_label(answer.label, len(state.classes))
        check_name(answer.person)
        check_seconds(answer.seconds)
        if answer.kind not in ANSWER_KINDS:
            raise ValueError(f"an answer of the kind {answer.kind[:20]!r}")
        state.add_answer(id, answer)


def _flags(state: State, rows: Rows) -> None:
    for _, image, raised, note in rows:
        check_index(image, len(state.paths))
        if raised:
            state.flags[image] = note
        else:
            state.flags.pop(image, None)


def _errors(state: State, rows: Rows) -> None:
    state.error = rows[-1][1]


TABLES: Mapping[str, Table] = {
    "settings": Table("number", "json", _settings),
    "classes": Table("class", "name", _classes),
    "renamed": Table("number", "class, name", _renamed),
    "images": Table("image", "path, known", _images),
    "known": Table("number", "image, class", _prelabels),
    "unreadable": Table("number", "image, reason", _set_aside),
    "set_aside": Table("number", "image, reason", _set_aside),
    "models": Table(
        "model",
        "at, heard, annotations, labelled_data, classes, seconds, watched, seen",
        _models,
    ),
    "learners": Table("number", "backbone, why, model, at", _learners),
    "coverage": Table("number", "ranking, image", _coverage),
    "questions": Table(
        "question", "image, kind, model, position, person, holder, at, until", _questions
    ),
    "returned": Table("number", "question", _released),
    "answers": Table("answer", "kind, image, label, person, question, undone, seconds", _answers),
    "flags": Table("flag", "image, raised, note", _flags),
    "troubles": Table("trouble", "text", _errors),
}
"""Every table that the state is made of, in the order in which new rows are read."""
