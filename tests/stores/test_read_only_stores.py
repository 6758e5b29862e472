"""Stores where nothing can be written, stores behind a link, and clocks that are set back."""

import codecs
import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_damaged_files import command, limit

from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.store.records import Question
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from dfal.storage import Ledger, real_path
from stored import a_record, a_store, bits

STORES = Path(__file__).parent


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A folder that everybody may read: one of pytest's lies in folders that only its user may
    enter."""
    folder = Path(tempfile.mkdtemp(prefix="dfal-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


CODECS = ("ascii", "cp437", "idna", "latin-1", "utf-16", "utf-32", "utf-8-sig")
"""Python imports a codec when it is first asked for, and remembers for good where that fails, as it
does for a user who may not read root's Python."""
LATE_MODULES = ("click._termui_impl", "dfal.cli.study_report")
"""Modules that commands import when they run, where that user could not read them."""


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be written: by nobody, as whom root acts for a while, or by its
    owner."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    for codec in CODECS:
        codecs.lookup(codec)
    for module in LATE_MODULES:
        importlib.import_module(module)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o644)


def labelled(path: Path) -> Session:
    """An open store with two answers, the last of which is in its log only."""
    session = Session.start(
        path, Settings(holdout=0.0), ["a.png", "b.png", "c.png"], ["cat", "dog"], person="Ada"
    )
    session.correct(0, "cat")
    session.correct(1, "dog")
    return session


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("log", ["closed", "copied with its log", "copied without"])
def test_a_labelling_store_is_exported_where_nothing_can_be_written(
    shelf: Path, tmp_path: Path, log: str
) -> None:
    with labelled(tmp_path / "l.db"):
        if log != "closed":
            shutil.copy(tmp_path / "l.db", shelf / "l.db")
        if log == "copied with its log":
            shutil.copy(tmp_path / "l.db-wal", shelf / "l.db-wal")
    if log == "closed":
        shutil.copy(tmp_path / "l.db", shelf / "l.db")
    before = {path.name: path.read_bytes() for path in shelf.iterdir()}
    with read_only(shelf):
        if log == "copied without":  # everything is in the log, which somebody forgot
            with pytest.raises(DfalError, match="holds no label yet"):
                command("export", shelf / "l.db", "--out", "/dev/null")
        else:
            with Session.open(shelf / "l.db", write=False) as session:
                assert session.state.corrected == {0: 0, 1: 1}
        with pytest.raises(
            DfalError, match=r"l\.db cannot be written here \(.*\): copy it to a folder of yours"
        ):
            Session.open(shelf / "l.db")
    assert {path.name: path.read_bytes() for path in shelf.iterdir()} == before


def test_the_command_exports_and_reports_from_a_read_only_folder(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with labelled(tmp_path / "l.db"):
        pass
    for name, place in (
        ("l.db", tmp_path / "l.db"),
        ("s.db", STORES / "version-1.db"),
        ("1.db", STORES / "label-version-1.db"),
    ):
        shutil.copy(place, shelf / name)
    out = Path(tempfile.mkdtemp(prefix="dfal-out-"))
    out.chmod(0o777)
    try:
        with read_only(shelf):
            for store, options in (
                ("l.db", ["export"]),
                ("1.db", ["export"]),
                ("s.db", ["report"]),
            ):
                command(options[0], shelf / store, "--out", out / store)
            with pytest.raises(DfalError, match=r"labels\.csv|l\.csv|cannot be written"):
                command("export", shelf / "l.db")
        assert (out / "l.db").read_text().splitlines()[1].startswith("a.png,cat,Ada")
        assert len((out / "1.db").read_text().splitlines()) == 8
        assert "<html" in (out / "s.db").read_text()
        assert names(shelf) == ["1.db", "l.db", "s.db"]
    finally:
        shutil.rmtree(out)


def test_a_run_store_is_read_where_nothing_can_be_written(shelf: Path, tmp_path: Path) -> None:
    with a_store(tmp_path / "s.db", ("a", a_record(0)), ("a", a_record(1))):
        for name in ("s.db", "s.db-wal"):
            shutil.copy(tmp_path / name, shelf / name)
    with read_only(shelf), Store(shelf / "s.db") as store:
        assert [bits(record) for record in store.records("a")] == [
            bits(a_record(0)),
            bits(a_record(1)),
        ]
    assert names(shelf) == ["s.db", "s.db-wal"]


def test_what_cannot_be_done_where_sqlite_fails_is_done_with_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only disk, for users who cannot make one: SQLite opens no file beside the
    store."""
    with a_store(tmp_path / "s.db", ("a", a_record(0))) as store:
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (tmp_path / "ro").mkdir()
        shutil.copy(tmp_path / "s.db", tmp_path / "ro" / "s.db")
    connect = Ledger._connect

    def deny(self: Ledger, path: str, *, uri: bool = False) -> object:
        db = connect(self, path, uri=uri)
        if not uri:
            (tmp_path / "ro" / "s.db-shm").mkdir(exist_ok=True)  # where SQLite wants to make a file
        return db

    monkeypatch.setattr(Ledger, "_connect", deny)
    with Store(tmp_path / "ro" / "s.db") as reader:
        assert len(reader.records("a")) == 1


def test_an_export_leaves_nothing_beside_the_store_and_changes_nothing(tmp_path: Path) -> None:
    for name in ("label-version-1.db", "label-version-2.db"):
        (tmp_path / name[:-3]).mkdir()
        path = tmp_path / name[:-3] / "l.db"
        shutil.copy(STORES / name, path)
        command("export", path, "--out", tmp_path / f"{name}.csv")
        assert names(path.parent) == ["l.db"]
        assert path.read_bytes() == (STORES / name).read_bytes()
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) == 8
        with (
            Session.open(path, write=False) as session,
            pytest.raises(DfalError, match="was opened to be read only"),
        ):
            session.flag(0)


def test_an_export_reads_what_a_page_has_just_added(tmp_path: Path) -> None:
    with (
        labelled(tmp_path / "l.db") as session,
        Session.open(tmp_path / "l.db", write=False) as reader,
    ):
        assert reader.state.corrected == {0: 0, 1: 1}
        session.correct(2, "dog")
        assert reader.refresh().corrected == {0: 0, 1: 1, 2: 1}


def test_a_link_to_a_store_is_the_store(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link, again = tmp_path / "disk" / "l.db", tmp_path / "link.db", tmp_path / "again.db"
    labelled(target).close()
    link.symlink_to(target)
    again.symlink_to("link.db")
    assert real_path(again) == real_path(target) == target
    with Session.open(again, person="Ada") as session, Session.open(target) as other:
        session.correct(2, "cat")
        assert other.refresh().corrected[2] == 0
        assert session.path == target
        assert model_path(session.path) == tmp_path / "disk" / "l.model.safetensors"
        session.claim_page("http://127.0.0.1:1/")
        with pytest.raises(DfalError, match=r"has a page open .* use it at http://127\.0\.0\.1:1/"):
            other.claim_page("http://127.0.0.1:2/")
    assert names(tmp_path) == ["again.db", "disk", "link.db"]


@pytest.mark.parametrize("through", ["link", "target"])
def test_two_runs_through_a_link_and_its_target_exclude_one_another(
    tmp_path: Path, through: str
) -> None:
    (tmp_path / "disk").mkdir()
    places = {"target": tmp_path / "disk" / "s.db", "link": tmp_path / "s.db"}
    places["link"].symlink_to(places["target"])  # to nothing yet
    first = places.pop(through)
    with Store(first, write=True), pytest.raises(DfalError, match="another process writes to"):
        Store(next(iter(places.values())), write=True)
    assert names(tmp_path) == ["disk", "s.db"]
    assert (tmp_path / "s.db").is_symlink()


def test_the_store_of_a_link_that_is_deleted_is_written_back_behind_it(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "l.db", tmp_path / "link.db"
    labelled(target).close()
    link.symlink_to(target)
    with Session.open(link, person="Ada") as session:
        target.unlink()
        session.correct(2, "cat")
    with Session.open(link, write=False) as reader:
        assert reader.state.corrected == {0: 0, 1: 1, 2: 0}
    assert link.is_symlink()


@pytest.mark.parametrize("back", [30.0, 300.0, 3600.0, 365 * 86400.0])
def test_a_clock_that_is_set_back_keeps_no_question_for_long(tmp_path: Path, back: float) -> None:
    now = 1.8e9
    settings = Settings(holdout=0.0, lease=600.0)
    with Session.start(
        tmp_path / "l.db", settings, ["a.png"], ["cat", "dog"], person="Ada", clock=lambda: now
    ) as session:
        (question,) = session.ask()
        now -= back
        waited = 0
        while not (found := session.ask(person="Bob", client_id="phone")):
            now, waited = now + 100, waited + 100
            assert waited <= 2 * 600
        assert found[0].image == question.image
        session.tell(found[0], "dog", person="Bob")
        again = session.undo(person="Bob", client_id="phone")
        assert isinstance(again, Question)
        assert again.image == 0  # the order is that of the rows


def test_times_of_the_future_are_read_and_exported(tmp_path: Path) -> None:
    now = 1e18  # no calendar has it
    with Session.start(
        tmp_path / "l.db", Settings(), ["a.png"], ["cat", "dog"], person="Ada", clock=lambda: now
    ) as session:
        session.correct(0, "cat")
        now = 5.0
        session.correct(0, "dog")
        assert session.state.labels.tolist() == [1]
    os.utime(tmp_path / "l.db", (9e9, 9e9))
    command("export", tmp_path / "l.db", "--out", tmp_path / "l.csv")
    assert "a.png,dog,Ada" in (tmp_path / "l.csv").read_text()


def test_a_model_is_used_from_a_read_only_folder(shelf: Path, tmp_path: Path) -> None:
    from test_damaged_files import _model_content

    (shelf / "m.safetensors").write_bytes(_model_content())
    Image.new("L", (16, 16), 7).save(shelf / "a.png")
    with read_only(shelf):
        command("predict", shelf / "m.safetensors", shelf)
    assert names(shelf) == ["a.png", "m.safetensors"]


def test_a_full_disk_of_another_kind_is_called_so(tmp_path: Path) -> None:
    with (
        labelled(tmp_path / "l.db") as session,
        pytest.raises(DfalError, match="is on a full disk: free some space"),
        session._log._sqlite_errors(),
    ):
        raise OSError(28, "No space left on device")


def test_a_pipe_is_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.db")
    with limit(20), pytest.raises(DfalError, match="is not a file and cannot be used as a store"):
        Session.open(tmp_path / "l.db")
