"""What the sub-folders of a folder say: classes, parts of a data set, folders of systems, however
names are written."""

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from dfal.data.datasets import folders
from dfal.data.image_folder import Folder
from dfal.data.layout import Layout
from dfal.data.listing import Listing
from dfal.data.path_names import PathIndex, find_file, nfc
from dfal.errors import DfalError
from dfal.labelling.setup import open_session

NFC = unicodedata.normalize("NFC", "Café")
NFD = unicodedata.normalize("NFD", "Café")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))


def write(folder: Path, paths: Sequence[str]) -> Path:
    for place, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), place).save(folder / path, "PNG")
    return folder


def classes(paths: Sequence[str], named: Sequence[str] = ()) -> dict[str, str]:
    layout = Layout.of(paths, named)
    return {paths[index]: name for index, name in layout.classes.items()}


TREES: dict[str, tuple[list[str], dict[str, str]]] = {
    "classes": (["cat/1", "dog/2", "3"], {"cat/1": "cat", "dog/2": "dog"}),
    "dates inside classes": (
        ["cat/2020/1", "cat/2021/2", "dog/3"],
        dict.fromkeys(["cat/2020/1", "cat/2021/2"], "cat") | {"dog/3": "dog"},
    ),
    "one class alone": (["cat/1", "cat/2"], dict.fromkeys(["cat/1", "cat/2"], "cat")),
    "one class with a date": (
        ["cat/may/1", "cat/may/2"],
        dict.fromkeys(["cat/may/1", "cat/may/2"], "cat"),
    ),
    "one folder around": (["data/cat/1", "data/dog/2"], {"data/cat/1": "cat", "data/dog/2": "dog"}),
    "two around, and stray files": (
        ["a/b/cat/1", "a/b/cat/2", "a/b/dog/3", "a/4", "5"],
        {"a/b/cat/1": "cat", "a/b/cat/2": "cat", "a/b/dog/3": "dog"},
    ),
    "a class with a few sorted out": (
        ["cat/1", "cat/2", "cat/3", "cat/old/4", "cat/bad/5"],
        dict.fromkeys(["cat/1", "cat/2", "cat/3", "cat/old/4", "cat/bad/5"], "cat"),
    ),
    "parts": (["train/cat/1", "test/dog/2"], {"train/cat/1": "cat", "test/dog/2": "dog"}),
    "parts in capitals": (
        ["Train/cat/1", "Test/dog/2"],
        {"Train/cat/1": "cat", "Test/dog/2": "dog"},
    ),
    "parts and a stray file": (
        ["train/cat/1", "test/dog/2", "sample"],
        {"train/cat/1": "cat", "test/dog/2": "dog"},
    ),
    "parts and a folder beside": (
        ["train/cat/1", "test/dog/2", "unlabeled/3"],
        {"train/cat/1": "cat", "test/dog/2": "dog"},
    ),
    "training alone and a folder beside": (
        ["train/cat/1", "train/dog/2", "unlabeled/3"],
        {"train/cat/1": "cat", "train/dog/2": "dog"},
    ),
    "parts in a folder": (
        ["x/train/cat/1", "x/test/dog/2"],
        {"x/train/cat/1": "cat", "x/test/dog/2": "dog"},
    ),
    "a folder in each part": (
        ["train/images/cat/1", "train/images/dog/2", "test/images/cat/3"],
        {"train/images/cat/1": "cat", "train/images/dog/2": "dog", "test/images/cat/3": "cat"},
    ),
    "parts without classes": (["train/1", "test/2"], {}),
    "a class that is called test": (["test/1", "other/2"], {"test/1": "test", "other/2": "other"}),
    "accents in two ways": (
        [f"{NFC}/1", f"{NFD}/2", "Bar/3"],
        {f"{NFC}/1": NFC, f"{NFD}/2": NFC, "Bar/3": "Bar"},
    ),
    "no folder": (["1", "2"], {}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("tree", TREES)
def test_the_classes_of_a_folder(tree: str) -> None:
    paths, wanted = TREES[tree]
    assert classes(paths) == wanted


def test_a_folder_that_is_called_as_a_known_class_is_that_class() -> None:
    assert classes(["Cat/may/1", "Cat/june/2"], ["cat", "dog"]) == {
        "Cat/may/1": "Cat",
        "Cat/june/2": "Cat",
    }
    assert classes([f"{NFD}/may/1", f"{NFD}/june/2"], [NFC]) == {
        f"{NFD}/may/1": NFC,
        f"{NFD}/june/2": NFC,
    }
    assert classes(["train/a/1", "test/b/2"], ["train", "test"]) == {
        "train/a/1": "train",
        "test/b/2": "test",
    }


@pytest.mark.parametrize("beside", ["sample.png", "unlabeled/9.png"])
@pytest.mark.parametrize("around", ["", "set/"])
def test_data_run_and_label_see_the_same_parts(
    tmp_path: Path, beside: str, around: str, capsys: pytest.CaptureFixture[str]
) -> None:

    parts = [f"train/{name}/{at}.png" for name in ("cat", "dog") for at in range(3)]
    tests = [f"test/{name}/{at}.png" for name in ("cat", "dog") for at in range(2)]
    photos = write(tmp_path / "photos", [around + path for path in [*parts, *tests, beside]])
    data = folders.load(photos)
    assert (data.classes, len(data.labels), len(data.test_labels)) == (("cat", "dog"), 6, 4)
    said = capsys.readouterr().err
    assert ("beside its parts are left out: 1 unlabeled" in said) == ("/" in beside)
    with contextlib.ExitStack() as opened:
        session, folder = open_session(opened, photos, tmp_path / "s.db")
        assert session.classes == ["cat", "dog"]
        assert session.state.labels.tolist().count(-1) == 1  # what lies beside can be labelled
        assert session.state.paths == list(folder.paths)
        assert all((photos / path).is_file() for path in session.state.paths)
        assert folder.layout.beside == Counter(["unlabeled"] if "/" in beside else [])


SYSTEMS = [
    "@eaDir",
    "$RECYCLE.BIN",
    "__MACOSX",
    "System Volume Information",
    "lost+found",
    "#recycle",
    ".@__thumb",
    "RECYCLER",
    "FOUND.000",
]


@pytest.mark.parametrize("name", SYSTEMS)
def test_folders_of_systems_are_left_out(tmp_path: Path, name: str) -> None:
    photos = write(
        tmp_path / "photos",
        ["cat/1.png", "dog/2.png", f"{name}/x.png", f"cat/{name}/y.png", "cat/._1.png"],
    )
    for other in ("Thumbs.db", ".DS_Store", "desktop.ini", "cat/Thumbs.db", "notes.txt"):
        (photos / other).write_bytes(b"x")
    listing = Listing.of(photos)
    assert [entry.path for entry in listing.entries] == ["cat/1.png", "dog/2.png"]
    assert listing.others == {".txt": 1}
    with Folder.open(photos) as folder:
        assert sorted(folder.known.values()) == ["cat", "dog"]


def test_the_folder_itself_may_be_called_as_a_system_calls_its_own(tmp_path: Path) -> None:
    assert len(Listing.of(write(tmp_path / "@eaDir", ["1.png"])).entries) == 1


def test_paths_are_found_however_their_accents_are_written() -> None:
    index = PathIndex([f"{NFD}/1", "2", f"{NFC}/3", f"{NFD}/3"])
    assert [
        index.get(path) for path in (f"{NFC}/1", f"{NFD}/1", "2", f"{NFC}/3", f"{NFD}/3", "4")
    ] == [0, 0, 1, 2, 3, -1]


def test_a_file_is_found_under_the_name_that_it_has(tmp_path: Path) -> None:
    write(tmp_path, [f"{NFD}/{NFC} 1.png", "2.png"])
    assert find_file(tmp_path, f"{NFC}/{NFD} 1.png") == tmp_path / NFD / f"{NFC} 1.png"
    assert (
        find_file(tmp_path, f"{NFC}/none.png") == tmp_path / NFC / "none.png"
        or not find_file(tmp_path, f"{NFC}/none.png").exists()
    )
    assert find_file(tmp_path, "2.png") == tmp_path / "2.png"


def test_a_folder_of_classes_with_accents_is_a_data_set(tmp_path: Path) -> None:
    photos = write(
        tmp_path / "photos",
        [
            *(f"{NFD}/{at}.png" for at in range(5)),
            *(f"{NFC}/x{at}.png" for at in range(5)),
            *(f"b/{at}.png" for at in range(10)),
        ],
    )
    data = folders.load(photos)
    assert data.classes == (NFC, "b")
    assert sorted(data.labels.bincount().tolist()) == [8, 8]


@pytest.mark.parametrize("given", ["sub-folders", "csv", "classes", "csv and classes"])
def test_labels_with_accents_in_either_form(tmp_path: Path, given: str) -> None:

    photos = write(
        tmp_path / "photos",
        (
            [f"{NFD}/{NFD} 1.png", "Bar/2.png"]
            if given in {"sub-folders", "classes"}
            else [f"{NFD} 1.png", "2.png"]
        ),
    )
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{NFC} 1.png,{NFD}\n2.png,Bar\n", encoding="utf-8")
    for turn in range(2):  # a new store, and the same again
        with contextlib.ExitStack() as opened:
            names = [NFD, "Bar"] if "classes" in given else []
            session, _ = open_session(
                opened, photos, tmp_path / "s.db", names, labels=table if "csv" in given else None
            )
            known = {
                session.state.paths[at]: session.classes[label]
                for at, label in enumerate(session.state.prelabelled.tolist())
            }
            assert set(known.values()) == {NFC, "Bar"}, turn
            assert all((photos / path).is_file() for path in known)
            assert sorted(session.classes) == ["Bar", NFC]


def test_a_store_goes_on_with_a_copy_of_its_folder_that_writes_accents_otherwise(
    tmp_path: Path,
) -> None:

    from dfal.cli.folder_summary import summary_lines
    from dfal.labelling.export import labels
    from dfal.labelling.export.folders import write_folders
    from dfal.labelling.learning.review import review
    from dfal.labelling.photos import Photos

    mac = write(tmp_path / "mac", [f"{NFD} {at}.png" for at in range(3)])
    with contextlib.ExitStack() as opened:
        session, _ = open_session(opened, mac, tmp_path / "s.db", [NFD, "b"])
        session.tell(session.ask()[0], NFD)  # a notebook may write it either way
        before = list(session.state.paths)
    linux = write(tmp_path / "linux", [f"{NFC} {at}.png" for at in range(4)])
    with contextlib.ExitStack() as opened:
        session, folder = open_session(opened, linux, tmp_path / "s.db")
        assert session.state.paths == [*before, f"{NFC} 3.png"]
        photos = Photos(session, folder)
        assert [nfc(path) for path in folder.paths] == [nfc(path) for path in session.state.paths]
        assert photos.network_image(0).shape == (16, 16, 1)
        assert (photos.original(0).media_type, photos.set_aside()) == ("image/png", {})
        assert review(session, text=NFC).total == review(session, text=NFD).total == 1
        assert not any(
            "no longer there" in line
            for line in summary_lines(session, folder, linux, tmp_path / "s.db")
        )
        assert write_folders(labels(session), linux, tmp_path / "out") == []
        assert len(list((tmp_path / "out" / NFC).iterdir())) == 1


def test_another_folder_is_still_refused(tmp_path: Path) -> None:

    with contextlib.ExitStack() as opened:
        open_session(
            opened, write(tmp_path / "one", ["1.png", "2.png"]), tmp_path / "s.db", ["a", "b"]
        )
    with (
        contextlib.ExitStack() as opened,
        pytest.raises(DfalError, match="of its 2 images 0 are in"),
    ):
        open_session(opened, write(tmp_path / "two", ["3.png"]), tmp_path / "s.db")
