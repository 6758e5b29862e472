"""The SQLite file of jobs, queries, answers and measurements. Rows are added, never changed.

A record is stored whole or not at all, and is on disk before the next one starts. Everything but
the tables `costs` and `runs`, which hold seconds and machines, is a function of the job: two stores
of the same jobs are equal in `contents()`, however often one of them was killed.
"""

import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors.torch import load, save
from torch import Tensor

from dfal.experiments.serialization import id_of
from dfal.experiments.store_views import VIEWS
from dfal.query import Query
from dfal.storage import Ledger, transaction

APPLICATION = 0x4446414C  # "DFAL"
WEIGHTS = """
CREATE TABLE weights (
  trial TEXT NOT NULL REFERENCES trials, round INTEGER NOT NULL, safetensors BLOB NOT NULL,
  PRIMARY KEY (trial, round)) STRICT, WITHOUT ROWID;
"""
"""Since version 3: of the networks that the next round starts from."""
SCHEMA = f"""
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
{WEIGHTS}"""
TABLES = (
    *("trials", "runs", "questions", "answers", "twins", "guesses", "measurements", "weights"),
    "costs",
)
CLOCKED = ("runs", "costs")
COUNTS = ("annotations", "labelled_data")
ID = re.compile("[0-9a-f]{16}")
"""The form of a job's id: the beginning of the SHA-256 of its configuration."""
LARGEST_NUMBER = 2**40
"""All images, classes and counts have smaller numbers; a larger one is damage."""
Rounds = defaultdict[int, list[tuple[Any, ...]]]
"""Rows of a table by their round."""


@dataclass(frozen=True)
class Record:
    """A stored round.

    Attributes:
        round: 0, 1, …
        query: the query, of no image in a trial's last round.
        answers: `answers[i]` is the label of `query.indices[i]`.
        seen: the predicted class of each queried image.
        twins_seen: the predicted class of each adversarial twin.
        measurements: name → value: annotations, labelled_data, accuracy (a fraction of the test
            set), and what else a job measures.
        costs: name → seconds.
        weights: the `state_dict` of the round's network, where the next round starts from it.
    """

    round: int
    query: Query
    answers: Int64[Tensor, "k"]
    seen: Int64[Tensor, "k"]
    twins_seen: Int64[Tensor, "t"]
    measurements: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict, compare=False)
    weights: Mapping[str, Tensor] | None = field(default=None, compare=False)

    @property
    def last(self) -> bool:
        """Return whether the trial ends with this round."""
        return not len(self.query.indices)

    @classmethod
    def without_query(
        cls, round: int, measurements: Mapping[str, float], costs: Mapping[str, float]
    ) -> "Record":
        """Return a round of a job that queries nothing."""
        none = torch.empty(0, dtype=torch.int64)
        return cls(round, Query.nothing(), none, none, none, measurements, costs)


class Store(Ledger):
    """An open store of `dfal run` or `dfal reproduce`."""

    application = APPLICATION
    version = 3
    schema = SCHEMA + ";".join((*VIEWS, ""))
    migrations = MappingProxyType({1: VIEWS, 2: (WEIGHTS,)})
    maker = "dfal run"
    when_full = "resume with --resume; every finished round is safe"

    def add_run(self, trials: Mapping[str, str], environment: Mapping[str, Any]) -> None:
        """Add jobs that are run from now on, and the environment in which they are.

        Args:
            trials: id → configuration as JSON.
            environment: as `provenance.environment` returns it.
        """
        with self._sqlite_errors(), self._adding() as db:
            db.execute(
                "INSERT INTO runs (environment) VALUES (?)",
                (json.dumps(environment, sort_keys=True),),
            )
            db.executemany("INSERT OR IGNORE INTO trials VALUES (?, ?)", trials.items())

    def add(self, trial: str, record: Record) -> None:
        """Add a round of the job with that id, and wait until it is on disk."""
        query, key = record.query, (trial, record.round)
        asked = query.indices.tolist()
        with self._sqlite_errors(), self._adding() as db:
            questions = zip(asked, query.scores.tolist(), record.seen.tolist(), strict=True)
            db.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?)",
                [(*key, i, *row) for i, row in enumerate(questions)],
            )
            answers = zip(asked, record.answers.tolist(), strict=True)
            db.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
                [(*key, i, *row) for i, row in enumerate(answers)],
            )
            if query.twins is not None and query.twinned is not None:
                twins = zip(
                    query.twinned.tolist(),
                    record.twins_seen.tolist(),
                    map(_npy, query.twins),
                    strict=True,
                )
                db.executemany(
                    "INSERT INTO twins VALUES (?, ?, ?, ?, ?, ?)",
                    [(*key, i, *row) for i, row in enumerate(twins)],
                )
            if query.guessed is not None and query.guesses is not None:
                guesses = zip(query.guessed.tolist(), query.guesses.tolist(), strict=True)
                db.executemany(
                    "INSERT INTO guesses VALUES (?, ?, ?, ?, ?)",
                    [(*key, i, *row) for i, row in enumerate(guesses)],
                )
            db.executemany(
                "INSERT INTO measurements VALUES (?, ?, ?, ?)",
                [(*key, *row) for row in record.measurements.items()],
            )
            if record.weights is not None:
                db.execute(
                    "INSERT INTO weights VALUES (?, ?, ?)", (*key, save(dict(record.weights)))
                )
            db.executemany(
                "INSERT INTO costs VALUES (?, ?, ?, ?)",
                [(*key, *row) for row in record.costs.items()],
            )

    def trials(self) -> dict[str, str]:
        """Return every job: id → configuration as JSON.

        Raises:
            DfalError: if the store is damaged.
        """
        configurations = dict(self._rows("SELECT trial, config FROM trials"))
        with self._damage_errors():
            for trial, config in configurations.items():
                if ID.fullmatch(trial) and id_of(config) != trial:
                    raise ValueError(f"the configuration of trial {trial} is another")
        return configurations

    def environments(self) -> list[dict[str, Any]]:
        """Return the environment of each run, in order.

        Raises:
            DfalError: if the store is damaged.
        """
        rows = self._rows("SELECT environment FROM runs ORDER BY run")
        with self._damage_errors():
            runs = [json.loads(text) for (text,) in rows]
            if not all(
                isinstance(run, dict) and isinstance(run.get("data", {}), dict) for run in runs
            ):
                raise ValueError("the description of a run is none")
        return runs

    def records(self, trial: str, *, twins: bool = True, weights: bool = False) -> list[Record]:
        """Return the rounds of a job, in order.

        Args:
            trial: the job's id.
            twins: whether to read adversarial twins too, which are most of the bytes.
            weights: whether to read the weights of networks too, from which a job goes on.
        """
        key = "WHERE trial = ? ORDER BY round, position"
        with (
            self._damage_errors(),
            transaction(self._db, "DEFERRED"),  # one state of the store, whatever a writer adds
        ):
            questions = self._by_round(
                f"SELECT round, position, image, score, seen FROM questions {key}", trial
            )
            answers = self._by_round(
                f"SELECT round, position, image, label FROM answers {key}", trial
            )
            twin_rows = (
                self._by_round(f"SELECT round, position, image, seen, npy FROM twins {key}", trial)
                if twins
                else Rounds(list)
            )
            guesses = self._by_round(
                f"SELECT round, position, image, label FROM guesses {key}", trial
            )
            measured = self._by_round(
                "SELECT round, name, value FROM measurements WHERE trial = ? ORDER BY round", trial
            )
            costs = self._by_round(
                "SELECT round, name, seconds FROM costs WHERE trial = ? ORDER BY round", trial
            )
            saved = {
                round: load(content)
                for round, content in self._rows(
                    "SELECT round, safetensors FROM weights WHERE trial = ?", trial
                )
                if weights
            }
            for rounds in (questions, answers, twin_rows, guesses):
                _check_positions(rounds, measured)
            _check_measured(measured, costs)
            records = [
                _record(
                    round,
                    questions[round],
                    answers[round],
                    twin_rows[round],
                    guesses[round],
                    measured[round],
                    costs[round],
                )
                for round in sorted(measured)
            ]
            return [replace(record, weights=saved.get(record.round)) for record in records]

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table but those of seconds and machines, in order.

        A resumed study must equal one that was never interrupted.
        """
        tables = [table for table in TABLES if table not in CLOCKED]
        # Tables without row ids are in the order of their keys.
        return {table: self._rows(f"SELECT * FROM {table}") for table in tables}

    def _by_round(self, sql: str, trial: str) -> Rounds:
        rounds = Rounds(list)
        for round, *row in self._rows(sql, trial):
            rounds[round].append(tuple(row))
        return rounds

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        with self._sqlite_errors():
            return self._db.execute(sql, values).fetchall()


def _record(round: int, *tables: list[tuple[Any, ...]]) -> Record:
    """Return the record of a round from its rows of each table.

    Raises:
        ValueError: if the rows contradict each other.
    """
    queried, answers, twinned, guessed, measured, costs = tables
    images = [row[1] for row in queried]
    if [row[1] for row in answers] != images:
        raise ValueError(f"the answers of round {round} belong to other images")
    twins = [_image(row[3]) for row in twinned]
    query = Query(
        indices=_integers(images),
        scores=torch.tensor(
            [np.nan if row[2] is None else row[2] for row in queried], dtype=torch.float32
        ),
        twinned=_integers(row[1] for row in twinned) if twinned else None,
        twins=torch.stack(twins) if twinned else None,
        guessed=_integers(row[1] for row in guessed) if guessed else None,
        guesses=_integers(row[2] for row in guessed) if guessed else None,
    )
    return Record(
        round,
        query,
        answers=_integers(row[2] for row in answers),
        seen=_integers(row[3] for row in queried),
        twins_seen=_integers(row[2] for row in twinned),
        measurements=dict(measured),
        costs=dict(costs),
    )


def _check_positions(rounds: Rounds, measured: Rounds) -> None:
    """Check that the rows of each round are numbered from 0, with possible images and classes.

    Raises:
        ValueError: if they are not.
    """
    if not rounds.keys() <= measured.keys():
        raise ValueError("rows of a round that has not ended")
    for round, rows in rounds.items():
        if [row[0] for row in rows] != list(range(len(rows))):
            raise ValueError(f"the rows of round {round} have not the numbers 0, 1, …")
        numbers = [value for row in rows for value in row[1:] if isinstance(value, int)]
        if numbers and not 0 <= min(numbers) <= max(numbers) < LARGEST_NUMBER:
            raise ValueError(f"round {round} has an image or a class that there cannot be")


def _check_measured(measured: Rounds, costs: Rounds) -> None:
    """Check that no round is missing, and that all values are possible.

    Raises:
        ValueError: if not.
    """
    if measured and sorted(measured) != list(range(min(measured), min(measured) + len(measured))):
        raise ValueError("a round is missing")
    for name, value in (row for rows in (*measured.values(), *costs.values()) for row in rows):
        if not name or not name.isprintable() or not math.isfinite(value):
            raise ValueError(f"a measurement {name[:20]!r} is {value}")
        if (name == "accuracy" and not 0 <= value <= 1) or (
            name in COUNTS and not (0 <= value < LARGEST_NUMBER and value == int(value))
        ):
            raise ValueError(f"{name} is {value}")


def _npy(image: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, image.cpu().numpy(), allow_pickle=False)
    return file.getvalue()


def _image(npy: bytes) -> Tensor:
    return torch.from_numpy(np.load(io.BytesIO(npy), allow_pickle=False))


def _integers(values: Iterable[int]) -> Int64[Tensor, "n"]:
    return torch.tensor(list(values), dtype=torch.int64)
