"""One SQLite file: trials, questions, answers, measurements. Rows are added, never changed.

A record is stored whole or not at all, and is on disk before the next one starts. Everything but the table `costs` and
the table `runs`, which hold clocks and machines, is a function of the trial: two stores of the same trials are equal in
`contents()`, however often one of them was killed.
"""

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.types import DfalError, Query

APPLICATION = 0x4446414C  # "DFAL"
VERSION = 1
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


class Store:
    """An open store. One process may have it open for writing, any number for reading.

    Args:
        path: the file. A writer makes it where there is none, and its folder.
        write: whether to add rows.

    Raises:
        DfalError: for a file that is no dfal store, of a newer version, not there, not writable, or in use.
    """

    def __init__(self, path: Path | str, *, write: bool = False):
        self.path = Path(path)
        # The lock's file stays: removing it would let two writers hold locks on two files of one name.
        self._lock = filelock.FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
        with self._explained():
            self._refuse_foreign(write)
            if write:
                self._acquire()
            try:
                self._db = self._open(write)
            except BaseException:
                self._lock.release()
                raise

    def _refuse_foreign(self, write: bool) -> None:
        """Look before touching: a file that is no store of ours is left as it is, to the byte."""
        if not self.path.exists() and not write:
            raise DfalError(f"there is no store {self.path}: name one that `dfal run` made")
        if self.path.is_dir():
            raise DfalError(f"{self.path} is a folder and cannot be used as a store: name a file in it")
        if not self.path.exists() or self.path.stat().st_size == 0:
            if not write:
                raise DfalError(f"the store {self.path} is empty: let `dfal run` write to it first")
            return
        with self.path.open("r+b" if write else "rb") as file:
            header = file.read(100)
        if header[:16] != b"SQLite format 3\0":
            raise DfalError(f"{self.path} is no dfal store: name another file")
        if int.from_bytes(header[68:72], "big") != APPLICATION:
            raise DfalError(f"{self.path} is a database, but no store of dfal: name another file")
        if (version := int.from_bytes(header[60:64], "big")) > VERSION:
            raise DfalError(f"{self.path} is a store of version {version}, but this dfal knows {VERSION}: update dfal")

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise DfalError(f"another process writes to {self.path}: wait for it, or name another store") from None

    def _open(self, write: bool) -> sqlite3.Connection:
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._create()
        db = sqlite3.connect(self.path, isolation_level=None)
        if write:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA recursive_triggers = ON")  # REPLACE is a change, too
        else:
            db.execute("PRAGMA query_only = ON")
        return db

    def _create(self) -> None:
        """A store is there whole or not at all: it is made beside its place and moved there."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
            db.executescript(SCHEMA)
            for table in TABLES:
                for change in ("UPDATE", "DELETE"):
                    stop = "SELECT RAISE(ABORT, 'rows are added, never changed')"
                    db.execute(f"CREATE TRIGGER {table}_{change} BEFORE {change} ON {table} BEGIN {stop}; END")
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        part.replace(self.path)

    def close(self) -> None:
        """Close the file; what was added is on disk already."""
        if self._lock.is_locked:
            with contextlib.suppress(sqlite3.OperationalError):  # a reader still has it open
                self._db.execute("PRAGMA journal_mode = DELETE")  # one file, to be read from any disk
        self._db.close()
        self._lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add_run(self, trials: Mapping[str, str], environment: Mapping[str, Any]) -> None:
        """Remember that these trials (id → configuration as JSON) are worked on from now on, by whom and where."""
        with self._explained(), _transaction(self._db):
            self._db.execute("INSERT INTO runs (environment) VALUES (?)", (json.dumps(environment, sort_keys=True),))
            self._db.executemany("INSERT OR IGNORE INTO trials VALUES (?, ?)", trials.items())

    def add(self, trial: str, record: Record) -> None:
        """Add one round, whole, and wait until it is on disk."""
        query, key = record.query, (trial, record.round)
        asked = query.indices.tolist()
        with self._explained(), _transaction(self._db) as db:
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
        with self._explained(), _transaction(self._db, "DEFERRED"):  # one state of the store, though a writer may go on
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

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's and the system's errors as one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reasons = {
                "SQLITE_FULL": "is on a full disk: free some space and go on with --resume; every finished round is safe",
                "SQLITE_CORRUPT": "is damaged: restore a copy, or start a new one",
            }
            what = getattr(error, "strerror", None) or error
            otherwise = f"cannot be written or read ({what}): name a file in a folder of yours"
            reason = reasons.get(getattr(error, "sqlite_errorname", ""), otherwise)
            raise DfalError(f"the store {self.path} {reason}") from error


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    db.execute(f"BEGIN {kind}")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _npy(image: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, image.cpu().numpy(), allow_pickle=False)
    return file.getvalue()


def _integers(values: Iterable[int]) -> Int64[Tensor, "n"]:
    return torch.tensor(list(values), dtype=torch.int64)
