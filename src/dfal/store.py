"""One SQLite file: trials, questions, answers, measurements. Rows are added, never changed.

A record is stored whole or not at all, and is on disk before the next one starts. Everything but the table `costs` and
the table `runs`, which hold clocks and machines, is a function of the trial: two stores of the same trials are equal in
`contents()`, however often one of them was killed.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.ledger import Ledger, transaction
from dfal.types import Query

APPLICATION = 0x4446414C  # "DFAL"
SCHEMA = """
CREATE TABLE trials (trial TEXT PRIMARY KEY, config TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE runs (run INTEGER PRIMARY KEY, environment TEXT NOT NULL) STRICT;
CREATE TABLE questions (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, position INTEGER NOT NULL,
  image INTEGER NOT NULL, score REAL, seen INTEGER NOT NULL,
  PRIMARY KEY (trial, round, position)) STRICT, WITHOUT ROWID;
CREATE TABLE answers (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, position INTEGER NOT NULL,
  image INTEGER NOT NULL, label INTEGER NOT NULL,
  PRIMARY KEY (trial, round, position)) STRICT, WITHOUT ROWID;
CREATE TABLE twins (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, position INTEGER NOT NULL,
  image INTEGER NOT NULL, seen INTEGER NOT NULL, npy BLOB NOT NULL,
  PRIMARY KEY (trial, round, position)) STRICT, WITHOUT ROWID;
CREATE TABLE guesses (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, position INTEGER NOT NULL,
  image INTEGER NOT NULL, label INTEGER NOT NULL,
  PRIMARY KEY (trial, round, position)) STRICT, WITHOUT ROWID;
CREATE TABLE measurements (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (trial, round, name)) STRICT, WITHOUT ROWID;
CREATE TABLE costs (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, name TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (trial, round, name)) STRICT, WITHOUT ROWID;
"""
TABLES = ("trials", "runs", "questions", "answers", "twins", "guesses", "measurements", "costs")
CLOCKED = ("runs", "costs")


@dataclass(frozen=True)
class Record:
    """One round as it is stored.

    Attributes:
        round: 0, 1, …
        query: what was asked; about no image in a trial's last round.
        answers: `answers[i]` is the label of `query.indices[i]`.
        seen: the class the network saw in each asked image.
        twins_seen: the class it saw in each twin.
        measurements: name → value: annotations, labelled_data, accuracy (a fraction of the test set).
        costs: name → seconds.
    """

    round: int
    query: Query
    answers: Int64[Tensor, "k"]
    seen: Int64[Tensor, "k"]
    twins_seen: Int64[Tensor, "t"]
    measurements: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def last(self) -> bool:
        """Whether the trial ended with this round."""
        return not len(self.query.indices)


class Store(Ledger):
    """An open store of `dfal run`."""

    application = APPLICATION
    schema = SCHEMA
    maker = "dfal run"
    when_full = "go on with --resume; every finished round is safe"

    def add_run(self, trials: Mapping[str, str], environment: Mapping[str, Any]) -> None:
        """Remember that these trials (id → configuration as JSON) are worked on from now on, by whom and where."""
        with self._explained(), transaction(self._db):
            self._db.execute("INSERT INTO runs (environment) VALUES (?)", (json.dumps(environment, sort_keys=True),))
            self._db.executemany("INSERT OR IGNORE INTO trials VALUES (?, ?)", trials.items())

    def add(self, trial: str, record: Record) -> None:
        """Add one round, whole, and wait until it is on disk."""
        query, key = record.query, (trial, record.round)
        asked = query.indices.tolist()
        with self._explained(), transaction(self._db) as db:
            questions = zip(asked, query.scores.tolist(), record.seen.tolist(), strict=True)
            db.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?)", [(*key, i, *row) for i, row in enumerate(questions)]
            )
            answers = zip(asked, record.answers.tolist(), strict=True)
            db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", [(*key, i, *row) for i, row in enumerate(answers)])
            if query.twins is not None and query.twinned is not None:
                twins = zip(query.twinned.tolist(), record.twins_seen.tolist(), map(_npy, query.twins), strict=True)
                db.executemany("INSERT INTO twins VALUES (?, ?, ?, ?, ?, ?)", [(*key, i, *row) for i, row in enumerate(twins)])
            if query.guessed is not None and query.guesses is not None:
                guesses = zip(query.guessed.tolist(), query.guesses.tolist(), strict=True)
                db.executemany("INSERT INTO guesses VALUES (?, ?, ?, ?, ?)", [(*key, i, *row) for i, row in enumerate(guesses)])
            db.executemany(
                "INSERT INTO measurements VALUES (?, ?, ?, ?)", [(*key, *row) for row in record.measurements.items()]
            )
            db.executemany("INSERT INTO costs VALUES (?, ?, ?, ?)", [(*key, *row) for row in record.costs.items()])

    def trials(self) -> dict[str, str]:
        """Every trial: id → configuration as JSON."""
        return dict(self._rows("SELECT trial, config FROM trials"))

    def environments(self) -> list[dict[str, Any]]:
        """Of each run in order: time, commit, versions, machine, threads, data."""
        return [json.loads(text) for (text,) in self._rows("SELECT environment FROM runs ORDER BY run")]

    def records(self, trial: str, *, twins: bool = True) -> list[Record]:
        """The rounds of a trial, in order; without its twins, which are most of the bytes, where they are not wanted."""
        key = "WHERE trial = ? ORDER BY round, position"
        with self._explained(), transaction(self._db, "DEFERRED"):  # one state of the store, though a writer may go on
            questions = self._by_round(f"SELECT round, image, score, seen FROM questions {key}", trial)
            answers = self._by_round(f"SELECT round, label FROM answers {key}", trial)
            made = self._by_round(f"SELECT round, image, seen, npy FROM twins {key}", trial) if twins else {}
            guesses = self._by_round(f"SELECT round, image, label FROM guesses {key}", trial)
            measured = self._by_round("SELECT round, name, value FROM measurements WHERE trial = ? ORDER BY round", trial)
            costs = self._by_round("SELECT round, name, seconds FROM costs WHERE trial = ? ORDER BY round", trial)
        records = []
        for round in sorted(measured):
            asked, twinned, guessed = questions.get(round, []), made.get(round, []), guesses.get(round, [])
            query = Query(
                indices=_integers(row[0] for row in asked),
                scores=torch.tensor([np.nan if row[1] is None else row[1] for row in asked], dtype=torch.float32),
                twinned=_integers(row[0] for row in twinned) if twinned else None,
                twins=torch.stack([torch.from_numpy(np.load(io.BytesIO(row[2]))) for row in twinned]) if twinned else None,
                guessed=_integers(row[0] for row in guessed) if guessed else None,
                guesses=_integers(row[1] for row in guessed) if guessed else None,
            )
            records.append(
                Record(
                    round,
                    query,
                    answers=_integers(row[0] for row in answers.get(round, [])),
                    seen=_integers(row[2] for row in asked),
                    twins_seen=_integers(row[1] for row in twinned),
                    measurements=dict(measured[round]),
                    costs=dict(costs.get(round, [])),
                )
            )
        return records

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table but those that hold clocks and machines, in order: what a resumed study must equal."""
        kept = [table for table in TABLES if table not in CLOCKED]
        return {table: self._rows(f"SELECT * FROM {table}") for table in kept}  # tables without row ids come in key order

    def _by_round(self, sql: str, trial: str) -> dict[int, list[tuple[Any, ...]]]:
        rounds: dict[int, list[tuple[Any, ...]]] = {}
        for round, *row in self._rows(sql, trial):
            rounds.setdefault(round, []).append(tuple(row))
        return rounds

    def _rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()


def _npy(image: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, image.cpu().numpy(), allow_pickle=False)
    return file.getvalue()


def _integers(values: Iterable[int]) -> Int64[Tensor, "n"]:
    return torch.tensor(list(values), dtype=torch.int64)
