"""Views in the store: what SQL says of trials is what their records say."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfal.errors import DfalError
from dfal.experiments.serialization import is_kind
from dfal.experiments.store import Store
from dfal.experiments.store_views import VIEWS
from dfal.experiments.trial import Trial
from stored import rows_of

STORES = Path(__file__).parents[1] / "stores"


@pytest.fixture(params=["every-job.db", "version-1.db", "version-2.db"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "study.db"
    shutil.copy(STORES / request.param, path)
    return path


@contextlib.contextmanager
def trials_of(path: Path) -> Iterator[tuple[Store, dict[str, Any]]]:
    with Store(path) as store:
        yield (
            store,
            {
                id: json.loads(text)["Trial"]
                for id, text in store.trials().items()
                if is_kind(Trial, text)
            },
        )


def test_the_views_say_what_the_records_say(store: Path) -> None:
    Store(store, write=True).close()
    curve, queried = [], []
    with trials_of(store) as (opened, trials):
        for id, config in trials.items():
            ((kind, settings),) = config["strategy"].items()
            inner = settings.get("strategy")
            name = f"{kind}({next(iter(inner))})" if inner else kind
            known = (id, config["dataset"], config["model"], name, config["seed"])
            for record in opened.records(id, twins=False):
                measured, query = record.measurements, record.query
                counts = (int(measured["annotations"]), int(measured["labelled_data"]))
                curve.append((*known, record.round, *counts, measured["accuracy"]))
                columns = (query.indices, query.scores, record.seen, record.answers)
                queried += [
                    (*known, record.round, position, *row)
                    for position, row in enumerate(
                        zip(*(column.tolist() for column in columns), strict=True)
                    )
                ]
    assert len(curve) >= 4
    assert len(queried) >= 10
    assert sorted(rows_of(store, "SELECT * FROM curve")) == sorted(curve)
    assert sorted(rows_of(store, "SELECT * FROM queried_images")) == sorted(queried)
    settings = rows_of(store, "SELECT trial, strategy_settings, config FROM trial_settings")
    assert {id: json.loads(config) for id, _, config in settings} == trials
    assert all(json.loads(text) in trials[id]["strategy"].values() for id, text, _ in settings)


def test_an_old_store_gets_views_from_a_writer_and_none_from_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(STORES / "version-1.db", path)
    with Store(path) as store:
        before = store.contents()
    assert path.read_bytes() == (STORES / "version-1.db").read_bytes()
    assert rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'view'") == []
    Store(path, write=True).close()
    assert len(rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'view'")) == len(VIEWS)
    with Store(path) as store:
        assert store.contents() == before


@pytest.mark.parametrize(
    "change",
    [
        "DROP VIEW curve",
        "DROP VIEW curve; CREATE VIEW curve AS SELECT 1",
        "CREATE VIEW another AS SELECT 1",
    ],
)
def test_a_store_with_other_views_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "changed.db"
    shutil.copy(STORES / "version-2.db", path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(change)
    for write in (False, True):
        with pytest.raises(DfalError, match=r"changed\.db is damaged, or was changed"):
            Store(path, write=write)
