"""The file of a store is deleted, replaced, cut off or moved while it is open: no answer is
acknowledged and lost."""

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from stored import a_record, a_store, bits

PATHS = [f"{number}.png" for number in range(40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "labels.db"


@pytest.fixture
def session(path: Path) -> Iterator[Session]:
    with Session.start(path, Settings(holdout=0.0), PATHS, ["cat", "dog"], person="Ada") as opened:
        answer(opened)
        yield opened


def answer(session: Session) -> int:
    """Answer one question; its image."""
    (question,) = session.ask()
    session.tell(question, "dog")
    return question.image


def kept(path: Path) -> set[int]:
    """The images with an answer, as somebody reads them who opens the file anew."""
    with Session.open(path, write=False) as reader:
        return set(reader.state.votes)


def all_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for one in all_of(path):
        one.unlink(missing_ok=True)


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


@pytest.mark.parametrize("lose", [delete, delete_all, move])
def test_a_store_that_was_deleted_is_written_back_with_every_answer(
    session: Session, path: Path, lose: Callable[[Path], None]
) -> None:
    images = set(session.state.votes)
    with Session.open(path, person="Bob") as other:  # the trainer, or a notebook
        for _ in range(3):
            lose(path)
            images.add(answer(session))
            assert kept(path) == images
            images.add(answer(other))
            assert kept(path) == images
    assert session.refresh().votes.keys() == images
    session.close()
    assert kept(path) == images
    assert not [one for one in path.parent.iterdir() if one.name.endswith(".part")]


def test_who_only_reads_sees_what_is_added_after_a_store_was_written_back(
    session: Session, path: Path
) -> None:
    with Session.open(path) as trainer:
        path.unlink()
        image = answer(session)
        assert image in trainer.refresh().votes


def test_a_store_that_is_deleted_in_the_middle_of_an_answer_is_written_back(
    session: Session, path: Path
) -> None:
    (question,) = session.ask()
    with session._log.adding() as transaction:
        transaction.add_flag(0, "blurred", "Ada", raised=True)
        path.unlink()
    with Session.open(path, write=False) as reader:
        assert reader.state.flags == {0: "blurred"}
    session.tell(question, "cat")
    assert question.image in kept(path)


def test_a_store_whose_folder_is_away_takes_no_answer_until_it_is_back(
    session: Session, path: Path
) -> None:
    (question,) = session.ask()
    path.parent.rename(path.parent.with_name("away"))
    for _ in range(2):
        with pytest.raises(
            DfalError, match=r"labels\.db was deleted or moved .* nothing is saved now: put it back"
        ) as raised:
            session.tell(question, "cat")
        assert (
            raised.value.__cause__ is not None
        )  # which the page answers with 507, and keeps the answer
    assert not path.parent.exists()
    path.parent.with_name("away").rename(path.parent)
    session.tell(question, "cat")
    assert question.image in kept(path)


def another(path: Path) -> None:
    Session.start(path.with_name("new.db"), Settings(), ["x.png"], ["a", "b"]).close()
    path.with_name("new.db").replace(path)


def no_store(path: Path) -> None:
    path.unlink()
    path.write_text("hello")


def nothing(path: Path) -> None:
    path.unlink()
    path.touch()


def cut_off(path: Path) -> None:
    os.truncate(path, 0)


def older_copy(path: Path) -> None:
    shutil.copy(path.parent.parent / "old.db", path.with_name("new.db"))
    path.with_name("new.db").replace(path)


@pytest.mark.parametrize("replace", [another, no_store, nothing, cut_off, older_copy])
def test_a_store_that_was_replaced_takes_no_answer(
    session: Session, path: Path, replace: Callable[[Path], None]
) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    shutil.copy(path, path.parent.parent / "old.db")
    images = {*session.state.votes, answer(session)}
    (question,) = session.ask()
    replace(path)
    found = path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            DfalError,
            match=r"labels\.db was replaced by another file .* nothing is saved now: move",
        ) as raised:
            session.tell(question, "cat")
        assert raised.value.__cause__ is not None
    assert path.read_bytes() == found  # nobody's file is written over
    if replace is not cut_off:  # the open file is whole
        path.unlink()
        session.tell(question, "cat")
        assert kept(path) == images | {question.image}


def test_a_store_that_was_replaced_by_its_own_copy_is_gone_on_with(
    session: Session, path: Path
) -> None:
    with sqlite3.connect(path) as db, sqlite3.connect(path.with_name("copy.db")) as copy:
        db.backup(copy)
    db.close()
    copy.close()
    path.with_name("copy.db").replace(path)
    images = {*session.state.votes, answer(session)}
    assert kept(path) == images


def test_a_store_without_its_log_takes_no_answer_and_loses_none(
    session: Session, path: Path
) -> None:
    images = set(session.state.votes)
    (question,) = session.ask()
    path.with_name("labels.db-wal").unlink()
    with pytest.raises(
        DfalError, match=r"has lost the file with the ending -wal .* stop all programs"
    ):
        session.tell(question, "cat")
    session.close()
    assert kept(path) == images


def test_people_who_answer_while_a_store_is_deleted_again_and_again_lose_nothing(
    session: Session, path: Path
) -> None:
    acknowledged: set[int] = set(session.state.votes)
    over = threading.Event()

    def label(own: Session) -> None:
        while not over.is_set():
            with contextlib.suppress(DfalError):  # it was not acknowledged
                own.refresh()
                for question in own.ask():
                    own.tell(question, "dog")
                    acknowledged.add(question.image)

    others = [Session.open(path, person=name) for name in ("Bob", "Cleo")]
    people = [threading.Thread(target=label, args=(own,)) for own in others]
    for person in people:
        person.start()
    try:
        for _ in range(10):
            path.unlink(missing_ok=True)
            for question in session.ask():
                session.tell(question, "dog")
                acknowledged.add(question.image)
            until = time.monotonic() + 10
            while any(own._log._file.st_ino != path.stat().st_ino for own in others):  # type: ignore[union-attr]
                assert time.monotonic() < until
                time.sleep(0.001)
    finally:
        over.set()
        for person in people:
            person.join()
    session.flag(0)
    for own in others:
        own.close()
    assert acknowledged <= kept(path)
    assert len(acknowledged) > 5


def test_a_file_system_without_links_gets_the_store_back_too(
    session: Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path.unlink()
    answered = answer(session)
    assert answered in kept(path)


def test_rounds_of_a_run_whose_store_was_deleted_are_written_back(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with a_store(path, ("a", a_record(0))) as store:
        path.unlink()
        store.add("a", a_record(1))
        with Store(path) as reader:
            assert [bits(record) for record in reader.records("a")] == [
                bits(a_record(0)),
                bits(a_record(1)),
            ]
        other = tmp_path / "other.db"
        a_store(other).close()
        other.replace(path)
        with pytest.raises(DfalError, match="was replaced by another file"):
            store.add("a", a_record(2))
        path.unlink()
        store.add("a", a_record(2))
    with Store(path) as reader:
        assert [record.round for record in reader.records("a")] == [0, 1, 2]
    assert [one.name for one in tmp_path.iterdir() if not one.name.endswith("lock")] == ["s.db"]
