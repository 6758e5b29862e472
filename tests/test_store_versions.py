"""A store of every version is kept, and is read and continued by this one."""

import sqlite3
from pathlib import Path

import pytest

from dfal import engine
from dfal.results import studies
from dfal.store import Store
from dfal.trial import Trial

STORES = sorted((Path(__file__).parent / "stores").glob("version-*.db"))


def test_a_store_of_every_version_is_kept(tmp_path: Path) -> None:
    """When the version goes up, a store of the last one must be there already."""
    Store(tmp_path / "new.db", write=True).close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    assert [int(path.stem.removeprefix("version-")) for path in STORES] == list(range(1, version + 1))


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
