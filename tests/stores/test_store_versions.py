"""A store of every version is kept, and is read and continued by this one."""

import hashlib
import itertools
import json
import runpy
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dfal import reproduce
from dfal.analysis.studies import studies
from dfal.experiments import runner
from dfal.experiments.serialization import from_json, is_kind
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.labelling.store.schema import LabelStore
from dfal.labelling.store.session import Session
from dfal.reproduce.selection_timing import SelectionTiming
from dfal.reproduce.transfer import Transfer

LABELS = sorted(Path(__file__).parent.glob("label-version-*.db"))
STORES = sorted(Path(__file__).parent.glob("version-*.db"))


def test_a_store_of_every_version_is_kept(tmp_path: Path) -> None:
    """When the version goes up, a store of the last one must be there already."""
    Store(tmp_path / "new.db", write=True).close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    assert [int(path.stem.removeprefix("version-")) for path in STORES] == list(
        range(1, version + 1)
    )
    assert [int(path.stem.removeprefix("label-version-")) for path in LABELS] == list(
        range(1, LabelStore.version + 1)
    )


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.stem)
def test_a_store_of_an_older_version_is_read_and_goes_on(path: Path, tmp_path: Path) -> None:
    """It holds a finished trial with twins (10 and 20 annotations), and the first two rounds of
    four of another."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with Store(copy) as store:
        before = store.contents()
        trials = [Trial.from_json(text) for text in store.trials().values()]
        records = {type(trial.strategy).__name__: store.records(trial.id) for trial in trials}
        (study,) = [one for one in studies(store) if one.settings.annotations == 20]
    assert sorted(map(len, records.values())) == [2, 2]
    assert records["DFAL"][-1].last
    assert records["DFAL"][0].query.twins is not None
    assert study.curves[0].annotations.tolist() == [10, 20]
    with Store(copy, write=True) as store:
        list(runner.run(trials, store, 1))
        assert all(store.records(trial.id)[-1].last for trial in trials)
        after = store.contents()
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), table


@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.stem)
def test_a_labelling_store_of_an_older_version_is_renewed_and_goes_on(
    path: Path, tmp_path: Path
) -> None:
    """It holds five answers, one of them taken back, a correction, a flag, a network and a label
    that was known."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with Session.open(copy, person="Ada") as session, Session.open(copy) as other:
        state = session.state
        assert state.labels.tolist() == [1, -1, -1, -1, 1, 0, -1, 1, -1, 0, -1, 1]
        assert (state.classes, state.flags, len(state.models)) == (
            ["cat", "dog"],
            {3: "blurred"},
            1,
        )
        kept = path.stem == "label-version-4"
        assert (state.learner is not None, state.coverage) == (kept, [6, 8, 10] if kept else [])
        assert session.settings.backbone == "none", "it learnt from pixels, and goes on so"
        session.rename_class("dog", "wolf")
        session.tell(session.ask()[0], "wolf")
        assert other.refresh().classes == ["cat", "wolf"]
        assert (other.state.labels == 1).sum() == 5
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (LabelStore.version,)
        for table, change in (
            ("renamed", "UPDATE renamed SET name = 'x'"),
            ("known", "DELETE FROM known"),
            ("answers", "DELETE FROM answers"),
        ):
            if table == "known":
                db.execute("INSERT INTO known (image, class, at) VALUES (1, 1, 0)")
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                db.execute(change)
    db.close()


JOBS: dict[str, tuple[type, str, list[float]]] = {
    "4a39e2ba33388617": (Trial, "dfal seed 0", [0.1, 0.132]),
    "ab6922b301413145": (Trial, "CEAL(threshold=0.19) seed 1", [0.09, 0.11]),
    "add81dbb8fbbb9e7": (
        Trial,
        "WithTwins(strategy=Margin(), attack=DeepFool(p=inf, clip=(0, 1))) seed 0",
        [0.1, 0.131],
    ),
    "090eb0fa4fd4ec75": (Trial, "kept_strategies:Mine(power=2.5) seed 0", [0.1, 0.1]),
    "5dbd337c51496401": (Trial, "kept_strategies:plain seed 0", [0.1, 0.1]),
    "e7240e73a42a6e97": (Trial, "kept_strategies:Mine(power=3)+twins seed 0", [0.1, 0.101]),
    "65d5f2560d7e7ee0": (SelectionTiming, "core-set", []),
    "a77ca50d27b76e0d": (Transfer, "dfal for lenet5 seed 0: lenet5", [0.1, 0.151]),
}
"""What commit 1f115f8 wrote into every-job.db: id, kind, label and accuracies."""

FIRST_NAMES = [*[None] * 6, "dfal.reproduce.question.Question", "dfal.reproduce.transfer.Transfer"]
"""The module paths under which the last two kinds were stored; today they have short names and the
same ids."""


@pytest.fixture
def every_job(tmp_path: Path) -> Path:
    copy = tmp_path / "every-job.db"
    copy.write_bytes((Path(__file__).parent / copy.name).read_bytes())
    return copy


def test_every_kind_of_job_that_was_stored_is_read_as_it_was(every_job: Path) -> None:
    with Store(every_job) as store:
        stored = store.trials()
        assert stored.keys() == JOBS.keys()
        for written, (kind, label, accuracies) in JOBS.items():
            (is_its_kind,) = [
                one for one in (Trial, SelectionTiming, Transfer) if is_kind(one, stored[written])
            ]
            job: Any = from_json(kind, stored[written])
            assert (is_its_kind, job.id, job.label) == (kind, written, label)
            records = store.records(written)
            assert job.finished(records)
            assert [
                one.measurements["accuracy"] for one in records if "accuracy" in one.measurements
            ] == accuracies
        chosen, _ = store.records("4a39e2ba33388617")
        assert chosen.query.indices.tolist() == [2068, 2188]
        assert chosen.query.twins is not None
        assert (
            hashlib.sha256(chosen.query.twins.numpy().tobytes()).hexdigest()[:16]
            == "b75dacbdd521b58a"
        )
        transferred, _ = store.records("a77ca50d27b76e0d")
        assert dict(transferred.measurements) == {
            "annotations": 4,
            "labelled_data": 4,
            "accuracy": 0.1,
            "twins": 2,
            "fooled": 0,
            "noise": 0,
        }
        found = reproduce.read_results(store)
    assert (len(found.studies), len(found.transfers), len(found.timings)) == (
        3,
        1,
        1,
    )  # a study for each K


def test_every_kind_of_job_that_was_stored_is_the_one_that_is_made_today(every_job: Path) -> None:
    """And so nothing of it is run again."""
    jobs = runpy.run_path(str(Path(__file__).parent / "make_every_job.py"))["JOBS"]
    assert [job.id for job in jobs] == list(JOBS)
    with Store(every_job, write=True) as store:
        for job, first_name in itertools.zip_longest(jobs, FIRST_NAMES):
            ((name, fields),) = json.loads(job.to_json()).items()
            assert json.loads(store.trials()[job.id]) == {first_name or name: fields}
            assert name == type(job).__name__.replace("Question", "SelectionTiming")
        before = store.contents()
        assert list(runner.run(jobs, store, 1)) == []
        assert store.contents() == before
