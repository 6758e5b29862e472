"""Presets of seconds, and a store of the paper's trials written by hand."""

import dataclasses
from pathlib import Path

import pytest
import torch

import dfal
from dfal import reproduce
from dfal.analysis.tables import (
    Cell,
    Table,
)
from dfal.experiments.jobs import Job
from dfal.experiments.store import Record, Store
from dfal.reproduce.stored_results import StoredResults

NONE = torch.empty(0, dtype=torch.int64)


TINY = "small_networks:tiny"


def small(**changes: object) -> reproduce.Preset:
    """The quick preset, smaller still."""
    settings = {
        "annotations": 60,
        "first": 20,
        "batch": 20,
        "epochs": 3,
        "full_epochs": 1,
        "seeds": 2,
        "candidates": 40,
    }
    return reproduce.preset("quick").changed(
        settings | {"model": TINY, "other": TINY, "until": 80} | changes
    )


BUDGETS = [10, 20, 30]


WRITTEN: dict[str, list[list[float]]] = {
    "dfal": [[0.30, 0.80, 0.95], [0.31, 0.82, 0.96], [0.29, 0.81, 0.94]],
    "dfal-no-twins": [[0.30, 0.60, 0.90], [0.31, 0.61, 0.91], [0.29, 0.62, 0.92]],
    "random": [[0.30, 0.50, 0.80], [0.31, 0.49, 0.81], [0.29, 0.51, 0.82]],
    "core-set": [[0.30, 0.55, 0.96], [0.31, 0.54, 0.96], [0.29, 0.56, 0.94]],
}


def write(store: Store, trial: Job, records: list[Record]) -> None:
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    for record in records:
        store.add(trial.id, record)


def at(place: int, annotations: int, value: float, more: int = 10, **measured: float) -> Record:
    asked = torch.arange(more) + 100 * place
    measured |= {"annotations": annotations, "labelled_data": annotations, "accuracy": value}
    return Record(
        place,
        dfal.Query(asked, torch.zeros(more)),
        asked % 10,
        asked % 10,
        NONE,
        measured,
        {"fit": 2.0, "select": 0.5},
    )


@pytest.fixture
def paper_store(tmp_path: Path) -> Store:
    """Four strategies, three seeds and three budgets, and the full training set at 0.95."""
    preset = reproduce.preset("paper").changed({"annotations": 30, "dataset": "mnist", "seeds": 3})
    store = Store(tmp_path / "s.db", write=True)
    for name, seeds in WRITTEN.items():
        for trial, accuracies in zip(preset.trials([name]), seeds, strict=True):
            rows = zip(BUDGETS, accuracies, [10, 10, 0], strict=True)
            write(
                store,
                trial,
                [
                    at(place, budget, value, more)
                    for place, (budget, value, more) in enumerate(rows)
                ],
            )
    full = dataclasses.replace(preset.trial, first=4000, annotations=4000, strategy=dfal.Random())
    for seed, value in enumerate((0.94, 0.95, 0.96)):
        write(store, dataclasses.replace(full, seed=seed), [at(0, 4000, value, 0)])
    return store


@pytest.fixture
def paper_results(paper_store: Store) -> StoredResults:
    """What that store holds."""
    return reproduce.read_results(paper_store)


def cells(made: Table) -> dict[tuple[str, str], Cell]:
    return {
        (name, head): cell
        for name, row in made.rows
        for head, cell in zip(made.head, row, strict=True)
    }
