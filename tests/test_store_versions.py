"""A store of every version is kept, and is read and continued by this one."""

import sqlite3
from pathlib import Path

import pytest

from dfal import engine
from dfal.labelling.session import Session
from dfal.labelling.store import LabelStore
from dfal.results import studies
from dfal.store import Store
from dfal.trial import Trial

LABELS = sorted((Path(__file__).parent / "stores").glob("label-version-*.db"))
STORES = sorted((Path(__file__).parent / "stores").glob("version-*.db"))


def test_a_store_of_every_version_is_kept(tmp_path: Path) -> None:
    """When the version goes up, a store of the last one must be there already."""
    Store(tmp_path / "new.db", write=True).close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    assert [int(path.stem.removeprefix("version-")) for path in STORES] == list(range(1, version + 1))
    assert [int(path.stem.removeprefix("label-version-")) for path in LABELS] == list(range(1, LabelStore.version + 1))


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.stem)
def test_a_store_of_an_older_version_is_read_and_goes_on(path: Path, tmp_path: Path) -> None:
    """It holds a finished trial with twins (10 and 20 annotations), and the first two rounds of four of another."""
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
        list(engine.run(trials, store, 1))
        assert all(store.records(trial.id)[-1].last for trial in trials)
        after = store.contents()
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), table


@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.stem)
def test_a_labelling_store_of_an_older_version_is_renewed_and_goes_on(path: Path, tmp_path: Path) -> None:
    """It holds five answers, one of them taken back, a correction, a flag, a network and a label that was known."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with Session.open(copy, person="Ada") as session, Session.open(copy) as other:
        state = session.state
        assert state.labels.tolist() == [1, -1, -1, -1, 1, 0, -1, 1, -1, 0, -1, 1]
        assert (state.classes, state.flags, len(state.models)) == (["cat", "dog"], {3: "blurred"}, 1)
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
