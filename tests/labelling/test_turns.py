"""Writers take turns, whoever never rests, is killed, is stopped, or cannot have a lock."""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfal.labelling.store import turns
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from dfal.labelling.store.turns import Turns
from stored import rows_of

WRITES_FOR_EVER = """
import sys, time
from dfal.labelling.store.session import Session
with Session.open(sys.argv[1], person="loop") as session:
    while True:
        with session._log.adding() as transaction:
            transaction.add_flag(1, "", "loop", raised=True)
            time.sleep(0.01)  # as a slow disk
            print(flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    Session.start(
        tmp_path / "s.db", Settings(), [f"{i}.png" for i in range(500)], ["cat", "dog"]
    ).close()
    return tmp_path / "s.db"


@pytest.fixture
def looping(store: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes without a pause, and has begun to."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_FOR_EVER, str(store)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(turns.locks is None, reason="without fcntl SQLite alone decides")
def test_a_person_writes_as_often_as_a_process_that_never_rests(
    store: Path, looping: subprocess.Popen[str]
) -> None:
    with Session.open(store, person="ann") as session:
        theirs = [
            int(rows_of(session.path, "SELECT count(*) FROM flags WHERE person = 'loop'")[0][0])
        ]
        for turn in range(40):
            session.correct(turn, "cat")
            theirs.append(
                int(rows_of(session.path, "SELECT count(*) FROM flags WHERE person = 'loop'")[0][0])
            )
    # One turn of the other's between two of ours; a few more where we were not there to ask in
    # time.
    between = sorted(after - before for before, after in itertools.pairwise(theirs))
    assert between[20] <= 2
    assert theirs[-1] - theirs[0] <= 5 * 40
    looping.kill()
    looping.wait()
    with Session.open(store, person="ann") as session:
        session.correct(1, "dog")
        assert session.state.labels[1] == 1, "a writer that is killed leaves its turn"


@contextlib.contextmanager
def held(store: Path, name: str) -> Iterator[bool]:
    """Whether a lock is free; it is held for as long as it is looked at."""
    file = os.open(store.with_name(f".{store.name}.{name}"), os.O_RDONLY)
    try:
        yield turns._lock(file, 0)
    finally:
        os.close(file)


@pytest.mark.skipif(turns.locks is None, reason="without fcntl SQLite alone decides")
def test_whoever_waits_too_long_goes_on_without_a_turn(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_TURN_SECONDS", 0.05)
    one, other, third = Turns(store), Turns(store), Turns(store)
    with one.one():
        with other.one(), third.one(), held(store, "queue") as free:
            assert free, "who gives up lets the next one wait"
        with held(store, "turn") as free:
            assert not free, "who had no turn gave none back"
    with held(store, "turn") as free:
        assert free
    for turn in (one, other, third):
        turn.close()


@pytest.mark.skipif(turns.locks is None, reason="without fcntl SQLite alone decides")
def test_files_that_another_process_removed_are_made_again_and_none_is_left(store: Path) -> None:
    before = sorted(path.name for path in store.parent.iterdir())
    one, other, third = Turns(store), Turns(store), Turns(store)
    for turn in (one, other):
        with turn.one():
            pass
    other.close()
    with one.one():
        third._current()
        with held(store, "turn") as free:
            assert not free, "the two have the same files again"
    for turn in (one, third):
        turn.close()
    assert sorted(path.name for path in store.parent.iterdir()) == before


@pytest.mark.skipif(turns.locks is None, reason="without fcntl SQLite alone decides")
def test_a_store_behind_a_link_has_the_same_turns(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(store)
    one, linked = Turns(store), Turns(tmp_path / "link.db")
    with one.one():
        linked._current()
        assert linked._files is not None
        assert not turns._lock(linked._files[1], 0)
    one.close()
    linked.close()


@pytest.mark.parametrize("missing", ["fcntl", "folder", "locks"])
def test_without_locks_sqlite_alone_decides(
    store: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if missing == "fcntl":
        monkeypatch.setattr(turns, "locks", None)
    elif missing == "folder":
        monkeypatch.setattr(os, "open", no_locks)
    elif turns.locks is not None:
        monkeypatch.setattr(turns.locks, "flock", no_locks)
    with Session.open(store, person="ann") as session, Session.open(store, person="bob") as other:
        session.correct(1, "dog")
        other.correct(2, "cat")
        assert (session.refresh().labels[:3] == [-1, 1, 0]).all()


def test_a_turn_is_given_back_when_writing_fails_and_nobody_waits_for_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(_: float) -> None:
        raise AssertionError("nobody else writes")

    monkeypatch.setattr(time, "sleep", waits)
    failed, free = Turns(store), Turns(store)
    with pytest.raises(KeyError), failed.one():
        raise KeyError
    with free.one():
        pass
    failed.close()
    free.close()
