"""Records and stores of `dfal run`, made without running anything."""

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from dfal.experiments.store import Record, Store
from dfal.query import Query

TRIALS = {"a": '{"seed": 0}', "b": '{"seed": 1}'}


def a_record(round: int, accuracy: float = 0.5, twins: int = 2) -> Record:
    rng = torch.Generator().manual_seed(round)
    asked = torch.randperm(1000, generator=rng)[: twins + 2]
    return Record(
        round,
        Query(
            indices=asked,
            scores=torch.cat([torch.tensor([0.1, torch.inf]), torch.rand(twins, generator=rng)]),
            twinned=asked[:twins],
            twins=torch.rand(twins, 1, 4, 4, generator=rng),
            guessed=torch.tensor([1007, 1003]),
            guesses=torch.tensor([4, 0]),
        ),
        answers=asked % 10,
        seen=asked % 7,
        twins_seen=asked[:twins] % 3,
        measurements={"annotations": 10.0 + round, "accuracy": accuracy},
        costs={"fit": 1.25, "select": 0.1},
    )


def a_store(path: Path, *added: tuple[str, Record]) -> Store:
    store = Store(path, write=True)
    store.add_run(TRIALS, {"machine": "this one"})
    for trial, record in added:
        store.add(trial, record)
    return store


def bits(value: object) -> object:
    """A record, or a part of one, as values that are equal only to the last bit: -0.0 is not 0.0,
    float64 not float32."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, Record | Query):
        return [bits(getattr(value, field.name)) for field in fields(value)]
    return value


def rows_of(store: Path, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Rows of a store as SQLite itself reads them."""
    with contextlib.closing(sqlite3.connect(store)) as database:
        return database.execute(sql, values).fetchall()
