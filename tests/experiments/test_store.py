import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dfal.errors import DfalError
from dfal.experiments.store import APPLICATION, Record, Store
from dfal.query import Query
from stored import TRIALS, a_record, a_store, bits


def files(folder: Path) -> list[Path]:
    """What lies in a folder, beside the lock of a store, which may stay for the next writer."""
    return sorted(path for path in folder.iterdir() if not path.name.endswith("lock"))


def test_a_record_comes_back_bit_for_bit(tmp_path: Path) -> None:
    record = a_record(3)
    assert record.query.twins is not None
    record.query.twins[0, 0, 0] = torch.tensor([-0.0, 1e-45, 1 / 3, torch.inf])
    record.query.scores[:4] = torch.tensor([-torch.inf, torch.nan, 1 / 3, torch.inf])
    with a_store(tmp_path / "s.db", ("a", record)):
        pass
    with Store(tmp_path / "s.db") as store:
        (found,) = store.records("a")
        assert bits(found) == bits(record)
        assert not found.last
        assert store.records("b") == []


def test_the_rounds_of_each_trial_come_back_in_order_however_many(tmp_path: Path) -> None:
    a, b = (
        [a_record(round) for round in range(12)],
        [a_record(round, 0.25, twins=3) for round in range(12)],
    )
    both = [added for pair in zip(a, b, strict=True) for added in zip("ab", pair, strict=True)]
    with a_store(tmp_path / "s.db", *both) as store:
        assert list(map(bits, store.records("a"))) == list(map(bits, a))
        assert list(map(bits, store.records("b"))) == list(map(bits, b))


def test_the_last_round_asks_about_nothing_and_comes_back(tmp_path: Path) -> None:
    none = torch.empty(0, dtype=torch.int64)
    record = Record(1, Query.nothing(), none, none, none, {"accuracy": 0.75})
    with a_store(tmp_path / "s.db", ("a", a_record(0)), ("a", record)) as store:
        first, last = store.records("a")
        assert bits(last) == bits(record)
        assert (first.last, last.last) == (False, True)


def test_a_round_without_twins_and_guesses_comes_back_without_them(tmp_path: Path) -> None:
    record = a_record(0)
    bare = replace(
        record,
        query=Query(record.query.indices, record.query.scores),
        twins_seen=torch.empty(0, dtype=torch.int64),
    )
    with a_store(tmp_path / "s.db", ("a", bare)) as store:
        assert bits(store.records("a")[0]) == bits(bare)


def test_no_row_of_any_table_can_be_changed_or_deleted(tmp_path: Path) -> None:
    record = replace(a_record(0), weights={"layer.weight": torch.rand(2, 3)})
    a_store(tmp_path / "s.db", ("a", record)).close()
    db = sqlite3.connect(tmp_path / "s.db")
    before = list(db.iterdump())
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert len(tables) == 9
    for table in tables:
        column = db.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchone()[0]
        for change in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="rows are added, never changed"):
                db.execute(change)
    assert list(db.iterdump()) == before
    db.close()


def test_the_contents_are_everything_but_clocks_and_machines(tmp_path: Path) -> None:
    record = replace(a_record(0), weights={"layer.weight": torch.rand(2, 3)})
    one = a_store(tmp_path / "1.db", ("a", record))
    other = a_store(tmp_path / "2.db", ("a", replace(record, costs={"fit": 99.0})))
    other.add_run(TRIALS, {"machine": "another"})
    third = a_store(tmp_path / "3.db", ("a", a_record(0, accuracy=0.75)))
    assert one.contents() == other.contents() != third.contents()
    assert set(one.contents()) == {
        "trials",
        "questions",
        "answers",
        "twins",
        "weights",
        "guesses",
        "measurements",
    }
    assert all(one.contents().values())
    for store in (one, other, third):
        store.close()


def test_the_contents_do_not_depend_on_the_order_in_which_trials_ran(tmp_path: Path) -> None:
    a, b = (
        [("a", a_record(round)) for round in range(3)],
        [("b", a_record(round, 0.25, twins=3)) for round in range(3)],
    )
    one = a_store(tmp_path / "1.db", *a, *b)
    other = a_store(tmp_path / "2.db", b[0], a[0], b[1], b[2], a[1], a[2])
    assert one.contents() == other.contents()
    one.close()
    other.close()


def test_trials_are_kept_once_and_runs_each_time(tmp_path: Path) -> None:
    with a_store(tmp_path / "s.db") as store:
        store.add_run({"c": "{}"} | TRIALS, {"machine": "another", "threads": 1})
        assert store.trials() == TRIALS | {"c": "{}"}
        assert store.environments() == [
            {"machine": "this one"},
            {"machine": "another", "threads": 1},
        ]


@pytest.mark.parametrize(
    ("trial", "record"),
    [
        pytest.param("a", a_record(1, accuracy=torch.nan), id="a measurement that is no number"),
        pytest.param("a", a_record(0, accuracy=0.75, twins=3), id="a round that is there already"),
        pytest.param("c", a_record(1), id="a trial that nobody began"),
    ],
)
def test_a_round_that_cannot_be_stored_whole_is_not_stored_at_all(
    tmp_path: Path, trial: str, record: Record
) -> None:
    with a_store(tmp_path / "s.db", ("a", a_record(0))) as store:
        before = store.contents()
        with pytest.raises(DfalError, match=r"s\.db"):
            store.add(trial, record)
        assert store.contents() == before
        store.add("a", a_record(1))
        assert bits(store.records("a")[1]) == bits(a_record(1))


DIES_IN_ROUND_3 = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from stored import a_record, a_store

class Deadly(dict):
    def items(self):
        print("dead", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

store = a_store(sys.argv[1], *(("a", a_record(round)) for round in range(3)))
record = a_record(3)
object.__setattr__(record, "measurements", Deadly(record.measurements))
store.add("a", record)
"""


def test_a_process_killed_in_the_middle_of_a_round_leaves_whole_rounds_and_no_lock(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.db"
    command = [sys.executable, "-c", DIES_IN_ROUND_3, str(path), str(Path(__file__).parents[1])]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-9, "dead\n"), killed.stderr
    with (
        a_store(tmp_path / "whole.db", *(("a", a_record(round)) for round in range(3))) as whole,
        Store(path) as reader,
    ):
        assert reader.contents() == whole.contents()
    with Store(path, write=True) as store:
        store.add("a", a_record(3))
        assert [record.round for record in store.records("a")] == [0, 1, 2, 3]


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    with a_store(tmp_path / "s.db", ("a", a_record(0))) as writer:
        with pytest.raises(DfalError, match=r"another process writes to .*s\.db"):
            Store(tmp_path / "s.db", write=True)
        with Store(tmp_path / "s.db") as reader:
            assert len(reader.records("a")) == 1
            writer.add("a", a_record(1))
            assert len(reader.records("a")) == 2
        with pytest.raises(DfalError, match="another process writes"):
            Store(tmp_path / "s.db", write=True)


def test_a_reader_cannot_add(tmp_path: Path) -> None:
    a_store(tmp_path / "s.db", ("a", a_record(0))).close()
    with Store(tmp_path / "s.db") as reader:
        with pytest.raises(DfalError):
            reader.add("a", a_record(1))
        assert len(reader.records("a")) == 1


def test_a_closed_store_is_one_file_that_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "s.db"
    for _ in range(2):
        a_store(path).close()
        assert files(path.parent) == [path]


def a_database(path: Path, *, application: int, version: int) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE trials (trial TEXT)")
    db.execute(f"PRAGMA application_id = {application}")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "not a dfal store"),
        ("short text", "not a dfal store"),
        ("database", "no store of dfal"),
        ("newer", f"{Store.version + 1}.*update"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_was(
    tmp_path: Path, kind: str, sentence: str, write: bool
) -> None:
    path = tmp_path / "thesis.db"
    if kind == "database":
        a_database(path, application=0, version=1)
    elif kind == "newer":
        a_database(path, application=APPLICATION, version=Store.version + 1)
    else:
        path.write_text("Call me Ishmael. " * (1 if kind == "short text" else 1000))
    before = path.read_bytes()
    with pytest.raises(DfalError, match=sentence) as raised:
        Store(path, write=write)
    assert "thesis.db" in str(raised.value)
    assert path.read_bytes() == before
    assert files(tmp_path) == [path]


def test_an_empty_file_is_no_store_to_a_reader_and_becomes_one_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()
    with pytest.raises(DfalError, match="is empty"):
        Store(path)
    assert path.stat().st_size == 0
    a_store(path, ("a", a_record(0))).close()


def test_a_store_with_a_damaged_middle_says_so(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    a_store(path, *(("a", a_record(round, twins=20)) for round in range(8))).close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(DfalError, match="is damaged"), Store(path) as store:
        store.contents()


def test_a_reader_is_told_that_the_file_is_not_there_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DfalError, match=r"there is no store .*s\.db"):
        Store(tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["file/s.db", "file/folder/s.db", "folder"])
def test_a_store_that_cannot_be_written_is_refused_with_a_sentence(
    tmp_path: Path, path: str
) -> None:
    # These fail for root as well, whom permissions do not stop.
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DfalError, match=f"{path}.*(written|used)"):
        Store(tmp_path / path, write=True)
    assert files(tmp_path) == [tmp_path / "file", tmp_path / "folder"]


def test_a_closed_store_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    # Root may write everywhere: this can fail for other users only.
    a_store(tmp_path / "s.db", ("a", a_record(0))).close()
    tmp_path.chmod(0o500)
    try:
        with Store(tmp_path / "s.db") as store:
            assert len(store.records("a")) == 1
    finally:
        tmp_path.chmod(0o700)


def test_on_a_full_disk_a_sentence_comes_and_earlier_rounds_stay(tmp_path: Path) -> None:
    with a_store(tmp_path / "s.db", ("a", a_record(0))) as store:
        before = store.contents()
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages + 1}")  # what SQLite calls full
        with pytest.raises(DfalError, match="full disk"):
            store.add("a", a_record(1, twins=200))
        assert store.contents() == before
        assert bits(store.records("a")[0]) == bits(a_record(0))
        store._db.execute("PRAGMA max_page_count = 1000000")
        store.add("a", a_record(1, twins=200))
        assert bits(store.records("a")[1]) == bits(a_record(1, twins=200))
