"""Exported labels: every one of them, once, with who gave it; in each registered format."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from dfal.data.datasets import Dataset
from dfal.data.image_folder import Folder
from dfal.errors import DfalError
from dfal.labelling.export import FORMATS, Label, LabelFormat, ModelFormat, labels
from dfal.labelling.export.csv_table import as_csv, write_csv
from dfal.labelling.export.folders import write_folders, write_hugging_face
from dfal.labelling.export.parquet import write_parquet
from dfal.labelling.names import class_name, person_name
from dfal.labelling.store.session import Session
from dfal.spreadsheet import defused, formulas, restored
from labelled import a_session, some_pngs


@pytest.fixture
def rows(tmp_path: Path, digits: Dataset) -> list[Label]:
    """Five images: labelled, declined, corrected, guessed, and one that nobody looked at."""
    some_pngs(tmp_path / "photos", digits, 5)
    with a_session(tmp_path / "photos", holdout=0.0) as (session, _):
        questions = {question.image: question for question in session.ask(5)}
        session.tell(questions[0], "7")
        session.decline(questions[1])
        session.tell(questions[2], "3")
        session.correct(2, "4", person="bob")
        return labels(session, {3: (9, 0.87654), 0: (1, 0.9)})


def test_each_label_says_who_when_and_how(rows: list[Label]) -> None:
    assert [(row.path, row.label, row.by, row.how, row.confidence) for row in rows] == [
        ("00000.png", "7", "ann", "given", 1.0),
        ("00001.png", "", "ann", "declined", 0.0),
        ("00002.png", "4", "bob", "given", 1.0),
        ("00003.png", "9", "network", "guessed", 0.8765),
    ]
    assert all(row.at.endswith("+00:00") for row in rows[:3])
    assert rows[3].at == ""


def test_an_answer_that_was_taken_back_is_no_label(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "photos", digits, 2)
    with a_session(tmp_path / "photos") as (session, _):
        session.tell(session.ask()[0], 1)
        session.undo()
        assert labels(session) == []


def test_votes_come_home_as_a_majority_and_its_share(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "photos", digits, 1)
    with a_session(tmp_path / "photos", votes=3) as (session, _):
        for person, label in (("ann", 1), ("bob", 2), ("cem", 1)):
            (question,) = session.ask(person=person, client_id=person)
            session.tell(question, label, person=person)
            if person != "cem":
                assert labels(session) == []
        (row,) = labels(session)
        assert (row.label, row.by) == ("1", "ann; cem")
        assert row.confidence == pytest.approx(2 / 3)


def test_known_labels_come_home_as_known(tmp_path: Path) -> None:
    from dfal.labelling.store.schema import Settings

    with Session.start(
        tmp_path / "s.db", Settings(), ["a.png", "b.png"], ["cat"], {"b.png": "cat"}
    ) as session:
        (row,) = labels(session)
        assert (row.path, row.label, row.how, row.by) == ("b.png", "cat", "known", "")


def test_flags_come_home_also_of_images_without_a_label(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "photos", digits, 3)
    with a_session(tmp_path / "photos", holdout=0.0) as (session, _):
        session.tell(next(one for one in session.ask(3) if one.image == 0), "7")
        session.flag(0, "blurred")
        session.flag(2, "whose is it?")
        session.flag(1, "no")
        session.flag(1, raised=False)
        found = labels(session)
    assert [(row.path, row.label, row.how, row.flagged, row.note) for row in found] == [
        ("00000.png", "7", "given", True, "blurred"),
        ("00002.png", "", "flagged", True, "whose is it?"),
    ]
    write_folders(found, tmp_path / "photos", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["00000.png"]


def test_an_export_replaces_an_export_and_nothing_else(rows: list[Label], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet is an extra: pip install 'dfal[parquet]'")
    for write, name in ((write_csv, "l.csv"), (write_parquet, "l.parquet")):
        write(rows[:1], tmp_path, tmp_path / name)
        one = (tmp_path / name).read_bytes()
        write(rows, tmp_path, tmp_path / name)
        assert (tmp_path / name).read_bytes() != one
        for precious in (tmp_path / "labels.db", tmp_path / "photos" / "00000.png"):
            before = precious.read_bytes()
            with pytest.raises(DfalError, match="is there already and no such export"):
                write(rows, tmp_path, precious)
            assert precious.read_bytes() == before
        (tmp_path / "own.csv").write_text("path,label\n00000.png,7\n")
        with pytest.raises(DfalError, match="is there already"):
            write(rows, tmp_path, tmp_path / "own.csv")
        for nowhere in (Path(), Path("/")):
            with pytest.raises(DfalError, match="is a folder"):
                write(rows, tmp_path, nowhere)


def test_a_data_set_of_no_label_is_not_written(rows: list[Label], tmp_path: Path) -> None:
    with pytest.raises(DfalError, match="no image has a label yet"):
        write_hugging_face(
            [row for row in rows if row.how == "declined"], tmp_path / "photos", tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_csv_and_parquet_hold_the_same(rows: list[Label], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet is an extra: pip install 'dfal[parquet]'")
    import pyarrow.parquet

    odd = Label('a, "b"\n.png', "c", "ann; bob", "", "given", 1.0)
    write_csv([*rows, odd], tmp_path, tmp_path / "l.csv")
    with (tmp_path / "l.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    write_parquet([*rows, odd], tmp_path, tmp_path / "l.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "l.parquet").to_pylist()
    assert (
        [row["path"] for row in read]
        == [row["path"] for row in table]
        == [*(row.path for row in rows), odd.path]
    )
    assert [float(row["confidence"]) for row in read] == [row["confidence"] for row in table]
    assert sorted(
        path.name for path in tmp_path.iterdir() if path.name.startswith((".l.", "l."))
    ) == ["l.csv", "l.parquet"]


@pytest.mark.parametrize(
    "begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'=", "''-"]
)
def test_no_cell_of_a_table_runs_as_a_formula(begin: str) -> None:
    text = f"{begin}cmd|' /C calc'!A0"
    row = Label("a.png", text, text, "", "given", 1.0, True, text)
    row = dataclasses.replace(row, path="a\rb.png") if begin == "\r" else row
    (cells,) = csv.DictReader(io.StringIO(as_csv([row]), newline=""))
    assert cells["path"] == row.path
    for column in ("label", "by", "note"):
        assert cells[column] == f"'{text}"
        assert restored(cells[column]) == text
    for harmless in ("", "cat", "'cat'", "'", "a=b", "3-4", "ä", "'tis"):
        assert restored(defused(harmless)) == defused(harmless) == harmless


def test_a_path_stays_and_its_label_is_read_again(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "photos", digits, 3)
    (tmp_path / "photos" / "00000.png").rename(tmp_path / "photos" / "=1+1.png")
    with a_session(tmp_path / "photos", holdout=0.0) as (session, _):
        session.correct(session.state.paths.index("=1+1.png"), "7")
        session.flag(session.state.paths.index("=1+1.png"), "=HYPERLINK(1)")
        write_csv(labels(session), tmp_path, tmp_path / "l.csv")
    text = (tmp_path / "l.csv").read_text()
    assert text.splitlines()[1].startswith("=1+1.png,7,ann,")
    assert text.endswith(",'=HYPERLINK(1)\n")
    with Folder.open(tmp_path / "photos", tmp_path / "other", labels=tmp_path / "l.csv") as folder:
        assert {folder.paths[i]: name for i, name in folder.known.items()} == {"=1+1.png": "7"}
    assert formulas(["a.png", "b/=c.png"]) == ""
    assert formulas(["a.png", "-b.png"]).startswith(
        "1 file name begins with = + - or @, as '-b.png'"
    )
    assert formulas(["@a.png", "＝b.png"]).startswith("2 file names begin")


@pytest.mark.parametrize("name", ["=cmd", "+49", "-x", "@ann", "＝cmd", "＠ann", " =cmd", "\t=cmd"])
def test_nobody_is_called_like_a_formula(name: str) -> None:
    with pytest.raises(DfalError, match="must not begin with one of = "):
        person_name(name)
    with pytest.raises(DfalError, match="must neither begin with one of"):
        class_name(name)


def test_folders_by_class_and_what_has_vanished(rows: list[Label], tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "00003.png").unlink()
    assert write_folders(rows, source, tmp_path / "out") == ["00003.png"]
    found = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")
    )
    assert found == ["4/00002.png", "7/00000.png", "_declined/00001.png"]
    assert (tmp_path / "out" / "7" / "00000.png").read_bytes() == (
        source / "00000.png"
    ).read_bytes()
    with pytest.raises(DfalError, match="is there already"):
        write_folders(rows, source, tmp_path / "out")


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for place in ("a/x.png", "a-x.png", "b/x.png"):
        (tmp_path / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / place).write_text(place)
    rows = [
        Label(place, "cat", "ann", "", "given", 1.0) for place in ("a/x.png", "a-x.png", "b/x.png")
    ]
    assert write_folders(rows, tmp_path / "photos", tmp_path / "out") == []
    assert sorted(path.read_text() for path in (tmp_path / "out" / "cat").iterdir()) == [
        "a-x.png",
        "a/x.png",
        "b/x.png",
    ]


def test_the_hugging_face_folder_names_every_file(rows: list[Label], tmp_path: Path) -> None:
    assert write_hugging_face(rows, tmp_path / "photos", tmp_path / "out") == []
    lines = [
        json.loads(line)
        for line in (tmp_path / "out" / "train" / "metadata.jsonl").read_text().splitlines()
    ]
    assert [(line["file_name"], line["label"]) for line in lines] == [
        ("00000.png", "7"),
        ("00002.png", "4"),
        ("00003.png", "9"),
    ]
    assert all((tmp_path / "out" / "train" / line["file_name"]).is_file() for line in lines)


def test_a_place_that_cannot_be_written_is_a_sentence_and_nothing_is_left(
    rows: list[Label], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for write in (write_csv, write_parquet):
        with pytest.raises(DfalError, match="cannot be written"):
            write(rows, tmp_path, tmp_path / "file" / "l")
    with pytest.raises(DfalError, match="cannot be written"):
        write_folders(rows, tmp_path / "photos", tmp_path / "file" / "out")


def names_of(kind: type[LabelFormat] | type[ModelFormat]) -> list[str]:
    return [name for name in FORMATS if isinstance(FORMATS[name], kind)]


@pytest.mark.parametrize("name", names_of(LabelFormat))
def test_every_format_of_labels_keeps_the_contract(
    name: str, rows: list[Label], tmp_path: Path
) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet is an extra: pip install 'dfal[parquet]'")
    written = FORMATS[name]
    assert isinstance(written, LabelFormat)
    photos, path = tmp_path / "photos", tmp_path / f"out{written.ending}"
    assert written.write(rows, photos, path) == []
    assert path.exists()
    assert [entry.name for entry in tmp_path.glob(".*part*")] == [], "nothing temporary is left"

    precious = photos / "00000.png"
    before = precious.read_bytes()
    with pytest.raises(DfalError, match=r"--out|name a folder"):
        written.write(rows, photos, precious)
    assert precious.read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match="cannot be written"):
        written.write(rows, photos, tmp_path / "file" / "out")


def test_the_formats_have_help_and_endings_of_their_own() -> None:
    assert {"csv", "parquet", "folders", "hugging-face", "onnx"} <= {*FORMATS}
    assert "onnx" in names_of(ModelFormat)
    endings = [FORMATS[name].ending for name in FORMATS]
    assert len(set(endings)) == len(endings)
    for name in FORMATS:
        about = FORMATS.about(name)
        assert about[0].islower()
        assert not about.endswith(".")
