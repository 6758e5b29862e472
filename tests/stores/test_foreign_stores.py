"""Stores that somebody else made or changed: nothing of theirs runs, and no name of theirs leads
out of a folder."""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_damaged_files import command

from dfal.errors import DfalError
from dfal.experiments.serialization import from_json, is_kind
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.labelling.export import labels
from dfal.labelling.setup import open_session
from dfal.labelling.store.records import Model, RankedImage
from dfal.labelling.store.schema import LabelStore, Settings
from dfal.labelling.store.session import Session
from dfal.labelling.validation import image_file, target_file
from dfal.storage import Ledger
from stored import a_record, a_store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (16, 16), 7).save(folder / name)
    (folder / "notes.txt").write_text("private")
    (tmp_path / "key.png").write_text("private")
    return folder


@pytest.fixture
def store(tmp_path: Path, photos: Path) -> Path:
    path = tmp_path / "labels.db"
    settings = Settings(folder=str(photos), holdout=0.0)
    with Session.start(path, settings, ["a.png", "b.png"], ["cat", "dog"], person="Ada") as session:
        session.tell(session.ask()[0], "cat")
        session.tell(session.ask()[0], "dog")
    return path


@contextlib.contextmanager
def rows_of(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, whose guards are away meanwhile, as whoever forges a store takes them away."""
    db = sqlite3.connect(path)
    guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        db.execute(f"DROP TRIGGER {name}")
    yield db
    for _, sql in guards:
        db.execute(sql)
    db.commit()
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()


def all_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(path: Path, *options: object) -> str:
    """What `dfal export` says of a store that it refuses in every form, writing nothing."""
    said = set()
    for form in ("csv", "folders", "hugging-face"):
        before = all_files(path.parent)
        with pytest.raises(DfalError) as raised:
            command(
                "export", path, "--format", form, "--out", path.parent / "out" / "labels", *options
            )
        assert all_files(path.parent) == before
        said.add(str(raised.value))
    (sentence,) = said
    return sentence


@pytest.mark.parametrize(
    "name", ["../../x", "/x/y", "..", ".", "a/b", "a\\b", "C:x", "a\0b", "", ".hidden", "a\nb"]
)
@pytest.mark.parametrize("table", ["classes", "renamed"])
def test_a_class_that_leads_elsewhere_is_refused_when_it_is_read(
    store: Path, name: str, table: str
) -> None:
    with rows_of(store) as db:
        if table == "classes":
            db.execute("UPDATE classes SET name = ? WHERE class = 1", (name,))
        else:
            db.execute(
                "INSERT INTO renamed (class, name, person, at) VALUES (1, ?, 'Eve', 0)", (name,)
            )
    assert "labels.db" in refused(store)


@pytest.mark.parametrize("path", ["../key.png", "/etc/passwd", "a/../../key.png", "..", "/", ""])
def test_a_path_that_leads_elsewhere_is_refused_when_it_is_read(store: Path, path: str) -> None:
    with rows_of(store) as db:
        db.execute("UPDATE images SET path = ? WHERE image = 1", (path.encode(),))
    assert "labels.db" in refused(store)


def test_a_file_that_is_no_image_is_not_copied(store: Path, tmp_path: Path) -> None:
    with rows_of(store) as db:
        db.execute("UPDATE images SET path = ? WHERE image = 1", (b"notes.txt",))
    for form in ("folders", "hugging-face"):
        with pytest.raises(
            DfalError, match=r"'notes\.txt' .* is not an image by its ending: do not use this store"
        ):
            command("export", store, "--format", form, "--out", tmp_path / "out")
        assert not [one for one in tmp_path.iterdir() if "out" in one.name]


def test_names_with_dots_and_links_of_ones_own_are_exported(tmp_path: Path, photos: Path) -> None:
    (photos / "..a..png").write_bytes((photos / "a.png").read_bytes())
    (photos / "link.png").symlink_to(photos / "a.png")
    paths = ["..a..png", "link.png", "a.png"]
    with Session.start(
        tmp_path / "l.db", Settings(folder=str(photos)), paths, ["v1.5", "dog"], person="Ada"
    ) as session:
        for image in range(3):
            session.correct(image, "v1.5")
    command("export", tmp_path / "l.db", "--format", "folders", "--out", tmp_path / "out")
    assert sorted(one.name for one in (tmp_path / "out" / "v1.5").iterdir()) == sorted(paths)


def test_without_a_folder_paths_are_texts_and_only_the_table_is_exported(tmp_path: Path) -> None:
    paths = ["/data/a.png", "https://example.org/../b.png"]
    with Session.start(
        tmp_path / "l.db", Settings(), paths, ["cat", "dog"], person="Ada"
    ) as session:
        session.correct(0, "cat")
        session.correct(1, "dog")
        assert [row.path for row in labels(session)] == paths
    for form in ("folders", "hugging-face"):
        with pytest.raises(
            DfalError, match="names no folder of images: only its table of labels can be exported"
        ):
            command("export", tmp_path / "l.db", "--format", form, "--out", tmp_path / "out")
    with pytest.raises(DfalError, match=r"'/data/a\.png', which is not in its folder"):
        Session.start(tmp_path / "m.db", Settings(folder="photos"), paths, ["cat"])
    assert not (tmp_path / "m.db").exists()


def test_what_is_written_and_read_stays_in_its_folder_whoever_asks(tmp_path: Path) -> None:
    for name in ("..", "../x", "/x", "", ".", "a/b"):
        with pytest.raises(DfalError, match="do not use this store"):
            target_file(tmp_path, name)
    for path in ("../a.png", "/a.png", "a/../../b.png"):
        with pytest.raises(DfalError, match="do not use this store"):
            image_file(tmp_path, path)
    assert image_file(tmp_path, "a/b..c/d.JPG") == tmp_path / "a/b..c/d.JPG"
    assert target_file(tmp_path, "..a") == tmp_path / "..a"


@pytest.mark.parametrize(
    "changed",
    [
        {"folder": 5},
        {"folder": "a\0b"},
        {"cache": ["/"]},
        {"size": -1},
        {"size": 10**9},
        {"size": 2.5},
        {"channels": 2},
        {"model": None},
        {"device": 0},
        {"votes": "2"},
        {"votes": 10**400},
        {"holdout": "nan"},
        {"holdout": float("nan")},
        {"training": {"epochs": "many"}},
        {"training": {"surprise": 1}},
        {"training": []},
        {"surprise": 1},
    ],
)
def test_settings_of_another_type_or_range_are_refused(
    store: Path, changed: dict[str, Any]
) -> None:
    settings = Settings(folder="x").to_dict()
    if isinstance(changed.get("training"), dict):
        changed = {"training": settings["training"] | changed["training"]}
    with rows_of(store) as db:
        db.execute(
            "INSERT INTO settings (at, json) VALUES (0, ?)", (json.dumps(settings | changed),)
        )
    assert "labels.db" in refused(store)


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "null", "{}", "[" * 100_000, '{"training": {"training": 1}}']
)
def test_settings_that_are_none_are_refused(store: Path, text: str) -> None:
    with rows_of(store) as db:
        db.execute("INSERT INTO settings (at, json) VALUES (0, ?)", (text,))
    assert "is damaged" in refused(store)


FORGED = [
    "UPDATE answers SET label = 7 WHERE answer = 1",
    "UPDATE answers SET label = -7 WHERE answer = 1",
    "UPDATE answers SET kind = 'x' WHERE answer = 1",
    "UPDATE answers SET person = char(7) WHERE answer = 1",
    "UPDATE answers SET person = CAST(x'ff80' AS TEXT) WHERE answer = 1",
    "UPDATE answers SET person = CAST(x'eda080' AS TEXT) WHERE answer = 1",
    "UPDATE answers SET kind = 'undo', undone = 2 WHERE answer = 1",
    "UPDATE questions SET kind = 'x' WHERE question = 1",
    "UPDATE questions SET holder = '' WHERE question = 1",
    "INSERT INTO known (image, class, at) VALUES (5, 0, 0)",
    "INSERT INTO known (image, class, at) VALUES (0, 5, 0)",
    "INSERT INTO unreadable (image, reason, at) VALUES (9, '', 0)",
    "INSERT INTO flags (image, raised, note, person, at) VALUES (9, 1, '', 'x', 0)",
    "INSERT INTO renamed (class, name, person, at) VALUES (9, 'x', 'x', 0)",
    "INSERT INTO renamed (class, name, person, at) VALUES (0, 'dog', 'x', 0)",
    "INSERT INTO models VALUES (1, 0, 0, 0, 0, 2, 1.0, x'000000', x'0000')",
    "INSERT INTO models VALUES (1, 0, 0, 0, 0, 2, 1.0, x'09000000', x'0000')",
    "INSERT INTO models VALUES (1, 0, 0, -5, 0, 2, 1.0, x'', x'')",
    "UPDATE images SET image = 7 WHERE image = 1",
    "UPDATE classes SET class = 7 WHERE class = 1",
]


@pytest.mark.parametrize("statement", FORGED)
def test_rows_that_dfal_cannot_have_written_are_refused(store: Path, statement: str) -> None:
    with rows_of(store) as db:
        db.execute(statement)
    assert "is damaged" in refused(store)


SCHEMAS = [
    "CREATE VIEW v AS SELECT 1",
    (
        "DROP TABLE looks; CREATE VIEW looks AS WITH RECURSIVE r(look) AS (SELECT 1 UNION ALL"
        " SELECT look + 1 FROM r) SELECT * FROM r"
    ),
    (
        "CREATE TRIGGER t AFTER INSERT ON answers BEGIN INSERT INTO troubles (text, at) VALUES"
        " ('x', 0); END"
    ),
    "DROP TRIGGER answers_DELETE",
    "CREATE TABLE more (x)",
    "CREATE INDEX more ON answers (at)",
    "DROP INDEX answers_of_image",
    "ALTER TABLE flags ADD COLUMN more TEXT",
    "CREATE VIRTUAL TABLE more USING fts5(x)",
]


@pytest.mark.parametrize("statement", SCHEMAS)
@pytest.mark.parametrize("write", [False, True])
def test_a_store_of_another_schema_is_refused_and_left_as_it_is(
    store: Path, statement: str, write: bool
) -> None:
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.executescript(f"{statement}; PRAGMA journal_mode = DELETE;")
    before = store.read_bytes()
    with pytest.raises(
        DfalError,
        match=r"labels\.db is damaged, or was changed .*: restore a copy, or start a new one",
    ):
        Session.open(store, write=write)
    assert store.read_bytes() == before


def test_a_run_store_of_another_schema_is_refused(tmp_path: Path) -> None:
    a_store(tmp_path / "s.db", ("a", a_record(0))).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as db:
        db.executescript(
            "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END; PRAGMA journal_mode"
            " = DELETE;"
        )
    for write in (False, True):
        with pytest.raises(DfalError, match="was changed"):
            Store(tmp_path / "s.db", write=write)


def test_statistics_that_sqlite_keeps_do_no_harm(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.executescript("ANALYZE; PRAGMA journal_mode = DELETE;")
    with Session.open(store) as session:
        assert len(session.state.votes) == 2
        session.flag(0)


RUN = [
    "UPDATE measurements SET value = 9.9 WHERE name = 'accuracy'",
    "UPDATE measurements SET value = -1 WHERE name = 'annotations'",
    "UPDATE measurements SET name = 'x' || char(10) WHERE name = 'accuracy'",
    "DELETE FROM measurements WHERE round = 1",
    "UPDATE questions SET image = -1 WHERE position = 1",
    "UPDATE answers SET image = 5 WHERE position = 1",
    "UPDATE answers SET label = 1152921504606846976 WHERE position = 1",
    "UPDATE twins SET npy = x'93' WHERE position = 0",
    "DELETE FROM answers WHERE position = 0",
    "UPDATE costs SET seconds = 9e999",
]


@pytest.mark.parametrize("statement", RUN)
def test_rounds_that_dfal_cannot_have_written_are_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "s.db"
    a_store(path, *(("a", a_record(round)) for round in range(3))).close()
    with rows_of(path) as db:
        db.execute(statement)
    with (
        Store(path) as store,
        pytest.raises(DfalError, match=r"s\.db is damaged \(.*\): restore a copy"),
    ):
        store.records("a")


def test_a_configuration_that_is_not_its_own_id_is_damage(tmp_path: Path) -> None:
    trial = Trial()
    with Store(tmp_path / "s.db", write=True) as store:
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
        assert store.trials() == {trial.id: trial.to_json()}
    with rows_of(tmp_path / "s.db") as db:
        db.execute("UPDATE trials SET config = replace(config, '\"seed\": 0', '\"seed\": 1')")
    with Store(tmp_path / "s.db") as store, pytest.raises(DfalError, match=r"s\.db is damaged"):
        store.trials()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "null",
        "[" * 100_000,
        '{"Trial": 5}',
        '{"Trial": {"x": 1}}',
        '{"Trial": {}, "a": 1}',
    ],
)
def test_a_text_that_is_no_configuration_is_one_sentence(text: str) -> None:
    with pytest.raises(DfalError, match="is no trial"):
        from_json(Trial, text)
    is_kind(Trial, text)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": "0"},
        {"seed": float("nan")},
        {"batch": 2.5},
        {"strategy": 5},
        {"training": 5},
        {"dataset": None},
    ],
)
def test_a_configuration_of_other_types_is_one_sentence(fields: dict[str, Any]) -> None:
    stored = json.loads(Trial().to_json())
    stored["Trial"] |= fields
    with pytest.raises(DfalError):
        from_json(Trial, json.dumps(stored))


def test_the_cache_that_a_store_of_another_folder_names_is_not_written(
    tmp_path: Path, photos: Path
) -> None:
    theirs = Settings(folder="/home/eve/photos", cache=str(tmp_path / "precious"), holdout=0.0)
    Session.start(
        tmp_path / "l.db", theirs, ["a.png", "b.png"], ["cat", "dog"], person="Eve"
    ).close()
    with contextlib.ExitStack() as opened:
        session, folder = open_session(opened, photos, tmp_path / "l.db")
        assert session.settings.cache == ""
        assert not (tmp_path / "precious").exists()
        assert tmp_path / "precious" not in folder.place.parents


def test_twins_and_queues_with_other_numbers_are_damage(store: Path) -> None:
    import numpy as np

    with Session.open(store, person="Ada") as session:
        none = np.empty(0, np.int64)
        session.correct(1, "dog")
        session.model_outputs.add_model(
            Model(1, 0.0, 0, 0, 0, 2, 1.0, none, none), [RankedImage(0, 1.0, 0, 1)]
        )
    with rows_of(store) as db:
        db.execute(
            "UPDATE questions SET kind = 'strategy', model = 1, position = 0 WHERE question = 1"
        )
        db.execute("UPDATE queue SET seen = 9, twin = x'000000', twin_seen = 1")
    with Session.open(store) as session:
        for read in (
            lambda: session.model_outputs.ranked_image(1),
            lambda: session.model_outputs.twin(1),
            session.model_outputs.twins,
        ):
            with pytest.raises(DfalError, match=r"labels\.db is damaged"):
                read()


def test_a_store_that_another_process_writes_to_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "patience", 0.05)
    with (
        Session.open(store, person="Ada") as session,
        contextlib.closing(sqlite3.connect(store, isolation_level=None)) as db,
    ):
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            DfalError,
            match=r"is being written to by another process: wait until it has finished, or stop it",
        ):
            session.flag(0)
        db.execute("ROLLBACK")
        session.flag(0)


CUT = [1, 16, 50, 99, 100, 500, 4095, 4096, 5000]


@pytest.mark.parametrize("size", CUT)
@pytest.mark.parametrize("write", [False, True])
def test_a_store_that_was_cut_off_is_one_sentence_and_stays_as_it_is(
    store: Path, size: int, write: bool
) -> None:
    os.truncate(store, size)
    with pytest.raises(
        DfalError, match=r"labels\.db (is damaged|is not a dfal store|is a database, but no store)"
    ):
        Session.open(store, write=write)
    assert store.stat().st_size == size


@pytest.mark.parametrize("end", ["-wal", "-journal"])
@pytest.mark.parametrize("content", [b"", b"hello" * 1000, bytes(5000)])
def test_garbage_beside_a_store_does_no_harm(store: Path, end: str, content: bytes) -> None:
    store.with_name(store.name + end).write_bytes(content)
    with Session.open(store) as session:
        assert len(session.state.votes) == 2
        session.flag(0)


def test_a_damaged_log_beside_a_store_gives_what_is_whole(store: Path, tmp_path: Path) -> None:
    with Session.open(store, person="Ada") as session:
        session.correct(0, "dog")
        wal = (tmp_path / "labels.db-wal").read_bytes()
        copy = tmp_path / "copy.db"
        shutil.copy(store, copy)
    for content in (wal[: len(wal) // 2], wal[:40] + bytes(50) + wal[90:], wal):
        copy.with_name("copy.db-wal").write_bytes(content)
        with Session.open(copy, write=False) as reader:
            assert len(reader.state.votes) == 2
            assert reader.state.corrected == ({0: 1} if content == wal else {})


def test_the_schema_of_every_version_is_known() -> None:
    from dfal.storage.tables import expected_objects

    assert len(expected_objects(LabelStore, 1)) < len(expected_objects(LabelStore, 2))
    assert {name for kind, name, _ in expected_objects(Store, 1) if kind == "table"} == {
        *("trials", "runs", "questions", "answers", "twins", "guesses", "measurements", "costs")
    }
