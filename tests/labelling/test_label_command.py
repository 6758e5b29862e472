"""`dfal label` and `dfal export` as people use them and misuse them, and what kills do to them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from PIL import Image

from dfal import cli, models
from dfal.cli.folder_summary import summary_lines
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.settings import EVERY_IMAGE, UNLABELLED_TRAINING
from dfal.labelling.setup import open_session
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from dfal.nn.training_settings import Training
from dfal.query import UNKNOWN
from labelled import DIGITS, Served, a_session, grey_pngs, some_pngs
from stored import rows_of

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return grey_pngs(tmp_path / "photos", 6)


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    """The one sentence with which a command is refused."""
    monkeypatch.setattr(sys, "argv", ["dfal", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    _, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert err.startswith(("dfal: ", "Usage: ")), err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no folder"),
        (["photos", "--classes", "cat", "Cat"], "'cat' and 'Cat' are alike but for case"),
        (["photos", "--classes", "cat", "cat"], "there is a class 'cat' already"),
        (["photos", "--classes", "cat,dog"], "comma"),
        (["photos", "--classes", "<script>", "dog"], "'<'"),
        (["photos", "--classes", "x" * 300], "300 characters"),
        (["photos", "--classes", ""], "empty"),
        (["photos", "--strategy", "dfla"], "did you mean 'dfal'"),
        (["photos", "--model", "nothing:here"], "'nothing:here' cannot be found"),
        (["photos", "--model", "lenet"], "did you mean 'lenet5'"),
        (["photos", "--backbone", "lite9"], "there is no backbone 'lite9': did you mean 'lite"),
        (["photos", "--backbone", "nothing:here"], "the backbone 'nothing:here' cannot be found"),
        (["photos", "--fit", "nothing:here"], "the training 'nothing:here' cannot be found"),
        (
            ["photos", "--fit", "small_networks:constant_fit", "--backbone", "pixels"],
            "trains a network on pixels, but --backbone pixels learns from features",
        ),
        (["photos", "--holdout", "0.9"], "--holdout must be at least 0 and at most 0.5 (got 0.9)"),
        (["photos", "--votes", "0"], "--votes must be 1 or more (got 0)"),
        (["photos", "--target", "95"], "--target must be above 0 and below 1 (got 95.0)"),
        (["photos", "--labels", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["photos", "--host", "256.1.1.1", "--classes", "a", "b"], "256.1.1.1"),
        (
            ["photos", "--url", "labels.example.org"],
            "--url 'labels.example.org' is not an address that begins with http",
        ),
        (["photos", "--url", "https://labels.example.org/api/"], "give another than /api"),
        (["photos", "--store", "photos/0.png"], "not a dfal store"),
        (["photos", "--store", "photos"], "is a folder"),
        (["photos/0.png"], "is a file"),
        (["photos", "--device", "tpu"], "there is no device 'tpu'"),
        (["photos", "--epochs", "0"], "--epochs must be 1 or more (got 0)"),
        (
            ["photos", "--classes", "_declined", "a"],
            "'_declined' is not a name that a folder may have",
        ),
        (["photos", "--labels", "latin.csv"], "is not written in UTF-8"),
        (["photos", "--labels", "columns.csv"], "has no columns path and label, but 'file,class'"),
        (
            ["photos", "--labels", "predicted.csv"],
            "holds the predictions of a network: it has a column confidence and no column how",
        ),
        (["--classes", "a", "b", "photos"], "put it before --classes"),
        (["empty"], "holds no image"),
        ([], "Missing argument 'PHOTOS'"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
    (photos.parent / "empty").mkdir()
    (photos.parent / "latin.csv").write_bytes("path,label\n0.png,Hündin\n".encode("latin-1"))
    (photos.parent / "columns.csv").write_text("file;class\n0.png;cat\n")
    (photos.parent / "predicted.csv").write_text("path,label,confidence\n0.png,cat,0.9\n")
    said = refused(capsys, monkeypatch, "label", "--no-browser", *arguments)
    assert sentence in said
    assert said.startswith("Usage: ") or said.count("\n") == 1
    assert not list(photos.parent.glob("*.db"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.db"], "there is no store"),
        (["photos/0.png"], "not a dfal store"),
        (["s.db"], "no label yet"),
    ],
)
def test_bad_exports_are_a_sentence(
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    from dfal.labelling.store.schema import Settings

    monkeypatch.chdir(photos.parent)
    Session.start("s.db", Settings(), ["a.png"], ["cat"]).close()
    assert sentence in refused(capsys, monkeypatch, "export", *arguments)


def test_a_session_from_the_first_command_to_the_labels_at_home(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    (tmp_path / "photos" / "broken.png").write_text("no image")
    store = tmp_path / "photos.labels.db"
    served = Served(tmp_path / "photos", "--classes", *DIGITS, "--epochs", "5")
    me = {"person": "ann", "holder": "h"}

    def label(n: int) -> None:
        for _ in range(n):
            (question,) = served.http.post("/api/ask", json=me | {"count": 1}).json()["questions"]
            body = {"question": question["id"], "label": truth[question["path"]], "person": "ann"}
            assert served.http.post("/api/tell", json=body).status_code == 200

    label(20)
    served.wait_for_model(1)
    trainer = served.wait_for_trainer()
    os.kill(
        trainer, signal.SIGTERM
    )  # as who stops the whole group does: that is no trouble in training
    # A second page over the same store is refused, a notebook is not.
    second = subprocess.run(
        [sys.executable, "-m", "dfal", "label", str(tmp_path / "photos"), "--no-browser"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert f"has a page open over {store}: stop it, or use it at {served.url}/" in second.stderr
    with Session.open(store, person="notebook") as notebook:
        (question,) = notebook.ask()
        notebook.tell(question, str(truth[notebook.state.paths[question.image]]))
    now = served.http.get("/api/progress").json()
    assert (now["annotations"], now["error"], served.trainer()) == (21, "", trainer)
    # Ctrl-C says where everything is; the same command goes on without saying anything again.
    served.http.close()
    os.killpg(served.process.pid, signal.SIGINT)  # as a terminal does: the trainer hears it, too
    out, _ = served.process.communicate(timeout=20)
    assert served.process.returncode == 130
    assert "21 answers are stored" in out
    assert "Traceback" not in out
    assert str(store) in out
    served = Served(tmp_path / "photos")
    now = served.http.get("/api/progress").json()
    assert (now["annotations"], now["classes"], now["unreadable"]) == (21, list(DIGITS), 1)
    label(1)
    served.stop()
    ran = subprocess.run(
        [sys.executable, "-m", "dfal", "export", str(store), "--guess"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    lines = (tmp_path / "photos.labels.csv").read_text().splitlines()[1:]
    assert len(lines) == 60
    given = [line.split(",") for line in lines if ",given," in line]
    assert len(given) == 22
    assert all(truth[path] == int(label) for path, label, *_ in given)
    assert "dfal predict" in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".db") == [
        "photos.labels.db"
    ]


def test_sub_folders_are_known_labels_unless_classes_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat", "dog", "2021"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (20, 20)).save(tmp_path / "photos" / name / "a.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def begun(store: str, classes: list[str]) -> tuple[list[str], list[str], int]:
        with contextlib.ExitStack() as opened:
            session, _ = open_session(opened, tmp_path / "photos", tmp_path / store, classes)
            known = {
                path: session.classes[label]
                for path, label in zip(session.state.paths, session.state.prelabelled, strict=True)
                if label >= 0
            }
            return session.classes, sorted(known.values()), session.state.left

    assert begun("a.db", ["Dog", "cat", "bird"]) == (["Dog", "cat", "bird"], ["Dog", "cat"], 1)
    assert begun("a.db", ["fish"]) == (["Dog", "cat", "bird", "fish"], ["Dog", "cat"], 1)
    assert begun("b.db", []) == (["2021", "cat", "dog"], ["2021", "cat", "dog"], 0)
    assert begun("c.db", ["one", "two"]) == (["one", "two"], [], 3)
    with Session.open(tmp_path / "a.db") as session:
        session.rename_class("Dog", "wolf")
    assert begun("a.db", ["Dog", "cat", "bird"]) == (
        ["wolf", "cat", "bird", "fish"],
        ["cat", "wolf"],
        1,
    )


def test_a_setting_that_is_said_again_changes_and_the_others_stay(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))

    def after(**given: Any) -> tuple[int, int, float]:
        with contextlib.ExitStack() as opened:
            settings = open_session(opened, photos, photos.parent / "s.db", ["a"], options=given)[
                0
            ].settings
            return settings.batch, settings.training.epochs, settings.training.learning_rate

    usual = Settings().training.learning_rate
    assert after(batch=3, epochs=7) == (3, 7, usual)
    assert after(epochs=9, learning_rate=0.01) == (3, 9, 0.01)
    assert after() == (3, 9, 0.01)


def test_what_the_folder_holds_is_said_before_the_page_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in (
        "train/cat/1.png",
        "train/dog/2.png",
        "test/cat/3.png",
        "new.heic",
        "old.bmp",
        "a.bmp",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20)).save(path, "PNG")

    def said(classes: list[str], labels: Path | None = None) -> str:
        with contextlib.ExitStack() as opened:
            session, folder = open_session(
                opened, Path("photos"), Path("s.db"), classes, labels=labels
            )
            return "; ".join(summary_lines(session, folder, Path("photos"), Path("s.db")))

    first = said(["cat"])
    assert "3 images in photos, 2 of them came with a label" in first
    assert "labels that are none of the classes are left out: 1 dog" in first
    assert "files of other kinds are left out: 2 .bmp, 1 .heic" in first
    (tmp_path / "photos" / "train" / "cat" / "1.png").unlink()
    (tmp_path / "l.csv").write_text("Path,Label\ntrain/dog/2.png,dog\n")
    second = said([], tmp_path / "l.csv")
    assert "2 images in photos, 3 of them" in second
    assert "1 image of the store is no longer there" in second
    with Session.open("s.db") as session:
        assert session.classes == ["cat", "dog"]
        assert session.state.labels.tolist() == [0, 0, 1]


def test_the_command_says_what_models_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfal.cli.folder_summary import learning_line

    def line(**settings: Any) -> str:
        with a_session(tmp_path / "photos", **settings) as (session, _):
            return learning_line(session)

    (tmp_path / "photos").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "photos" / "a.png")
    for installed, words in ((True, "or from pixels"), (False, "pip install 'dfal[photos]'")):
        monkeypatch.setattr("dfal.cli.folder_summary.installed", lambda: installed)  # noqa: B023
        assert words in line(backbone="auto")
        (tmp_path / "labels.db").unlink()
    assert line(backbone="none") == "models are networks trained on pixels (lenet5)"
    (tmp_path / "labels.db").unlink()
    with a_session(tmp_path / "photos", backbone="auto") as (session, _):
        session.model_outputs.add_learner("lite2", "97 % of 40 labels right, pixels 71 %")
        assert learning_line(session) == (
            "models learn from the features of lite2: 97 % of 40 labels right, pixels 71 %"
        )


def test_links_hold_over_restarts(tmp_path: Path) -> None:
    from dfal.labelling.web.page_server import _token

    store = tmp_path / "s.db"
    token = _token(store)
    assert len(token) == 32
    assert _token(store) == token != _token(tmp_path / "other.db")
    assert (tmp_path / ".s.db.token").stat().st_mode & 0o777 == 0o600
    (tmp_path / ".s.db.token").write_text("abc")
    with pytest.raises(DfalError, match="too short to be a secret"):
        _token(store)


def test_who_comes_second_hears_where_the_page_is_and_nobody_else_does(tmp_path: Path) -> None:
    store, beside = tmp_path / "s.db", tmp_path / ".s.db.url"
    beside.write_text("http://old/")  # of a page that was killed
    with (
        Session.start(store, Settings(), ["a.png"], ["cat"]) as first,
        Session.open(store) as second,
    ):
        first.claim_page("http://10.0.0.1:8765/?token=secret")
        assert beside.stat().st_mode & 0o777 == 0o600
        with pytest.raises(DfalError, match=r"use it at http://10.0.0.1:8765/\?token=secret$"):
            second.claim_page("http://10.0.0.1:1/")
        beside.unlink()
        with pytest.raises(DfalError, match=r"stop it, or use that one$"):
            second.claim_page("http://10.0.0.1:1/")


def test_a_store_is_not_given_to_another_folder_by_mistake(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
    (photos.parent / "other").mkdir()
    Image.new("L", (20, 20)).save(photos.parent / "other" / "strange.png")
    store = photos.parent / "s.db"

    def paths(folder: Path) -> list[str]:
        with contextlib.ExitStack() as opened:
            return open_session(opened, folder, store, ["a", "b"])[0].state.paths

    before = paths(photos)
    with pytest.raises(
        DfalError, match=r"belongs to .*photos, and of its 6 images 0 are in .*other"
    ):
        paths(photos.parent / "other")
    photos.rename(photos.parent / "moved")
    assert paths(photos.parent / "moved") == before


class Clicker(threading.Thread):
    """Labels as fast as it can, whatever happens to the server, and knows what was acknowledged."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.url, self.over = f"http://127.0.0.1:{port}", threading.Event()
        self.acknowledged: dict[int, int] = {}

    def run(self) -> None:
        me = {"person": "ann", "holder": "h"}
        told: dict[str, int] = {}
        while not self.over.is_set():
            try:
                with httpx.Client(base_url=self.url, timeout=5) as web:
                    while not self.over.is_set():
                        if not told:
                            asked = web.post("/api/ask", json=me | {"count": 1}).json()["questions"]
                            if not asked:
                                return
                            told = {"question": asked[0]["id"], "label": asked[0]["image"] % 10}
                            image = asked[0]["image"]
                        answer = web.post("/api/tell", json=told | {"person": "ann"})
                        if answer.status_code == 200:
                            assert image not in self.acknowledged, "asked twice"
                            self.acknowledged[image] = told["label"]
                        told = {}
                        time.sleep(0.01)
            except httpx.TransportError:
                time.sleep(0.05)


def test_a_folder_on_a_disk_that_cannot_be_written(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "disk" / "photos", digits, 3)
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]  # a mount that nobody else sees
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
    try:
        subprocess.run(
            [*alone, mount, "sh", str(tmp_path / "disk")], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a disk")
    command = f'{mount} && shift && exec "$@"'
    dfal = [*alone, command, "sh", str(tmp_path / "disk"), sys.executable, "-m", "dfal"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    folder = str(tmp_path / "disk" / "photos")

    def refused(*arguments: str) -> str:
        done = subprocess.run(
            [*dfal, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "Read-only file system): name a store in a folder of yours" in refused(
        "label", folder, "--classes", "a", "b"
    )
    with Session.start(
        tmp_path / "disk" / "s.db", Settings(folder=folder), ["00000.png"], ["a"]
    ) as session:
        session.tell(session.ask()[0], "a")
    assert "Read-only file system" in refused("export", str(tmp_path / "disk" / "s.db"))
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["photos", "s.db"]


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.slow)])
def test_after_every_kill_each_acknowledged_answer_is_there_once(
    tmp_path: Path, digits: Dataset, kills: int
) -> None:
    some_pngs(tmp_path / "photos", digits, 100 if kills < 10 else 4000)
    options = ["--classes", *DIGITS, "--epochs", "2"]
    served = Served(tmp_path / "photos", *options)
    clicker = Clicker(served.port)
    clicker.start()
    for kill in range(kills):
        time.sleep(0.1 + 0.4 * (kill % 3))
        if kill % 2:
            os.kill(served.wait_for_trainer(), signal.SIGKILL)
        else:
            served.stop(kill=True)
            with Session.open(tmp_path / "photos.labels.db") as session:
                kept = {image: session.state.labels[image] for image in list(clicker.acknowledged)}
                assert kept == {image: clicker.acknowledged[image] for image in kept}
            served = Served(tmp_path / "photos", port=served.port)
    time.sleep(1)
    clicker.over.set()
    clicker.join(10)
    served.stop()
    with Session.open(tmp_path / "photos.labels.db") as session:
        assert len(clicker.acknowledged) >= 10 * (kills < 10) + kills
        assert {i: session.state.labels[i] for i in clicker.acknowledged} == clicker.acknowledged
        (most,) = rows_of(
            session.path, "SELECT max(n) FROM (SELECT count(*) AS n FROM answers GROUP BY image)"
        )
        assert most == (1,)


SHORTER = """
from dataclasses import replace
from dfal.labelling import settings
settings.UNLABELLED_TRAINING = replace(settings.UNLABELLED_TRAINING, steps=20, warm_steps=10)
"""


def test_killed_while_unlabelled_images_teach_it_resumes_with_every_answer(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 80)
    store = tmp_path / "labels.db"
    small = {"size": 16, "labels_only": False, "training": Training(augment="shapes")}
    with a_session(tmp_path / "photos", known=None, **small) as (session, _):
        for question in session.ask(30):
            session.tell(question, truth[session.state.paths[question.image]])
        session.model_outputs.add_learner(EVERY_IMAGE, "it is better")
        labels = session.state.labels.copy()
    served = Served(tmp_path / "photos", "--backbone", "none", "--store", str(store))

    def label(n: int) -> None:
        ask = {"person": "ann", "holder": "h", "count": n}
        for question in served.http.post("/api/ask", json=ask).json()["questions"]:
            tell = {"question": question["id"], "label": truth[question["path"]], "person": "ann"}
            assert served.http.post("/api/tell", json=tell).status_code == 200
            assert labels[question["image"]] == UNKNOWN
            labels[question["image"]] = tell["label"]

    now = served.wait_until(lambda now: now["steps"])
    assert (now["training"], now["learner"]["backbone"]) == ("training", EVERY_IMAGE)
    assert now["steps"]["total"] == UNLABELLED_TRAINING.steps
    label(3)
    served.stop(kill=True)
    with Session.open(store) as session:
        assert not session.state.models, "it was killed in its first training"
        assert session.state.labels.tolist() == labels.tolist()
    (tmp_path / "sitecustomize.py").write_text(SHORTER)  # which Python imports when it starts
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    served = Served(tmp_path / "photos", "--backbone", "none", "--store", str(store))
    label(1)
    now = served.wait_until(lambda now: now["model"] and not now["newer"])
    assert (now["annotations"], now["error"]) == (34, "")
    served.stop()
    with Session.open(store) as session:
        state = session.state
        assert state.labels.tolist() == labels.tolist()
        assert state.backbone == EVERY_IMAGE
        assert state.models[-1].last_answer_id == state.last_answer_id
    assert models.load(model_path(store)).card.annotations == state.trained_on.sum()


@pytest.mark.slow
def test_memory_is_flat_over_20_000_answers(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(21_000):
        Image.new("L", (8, 8), place % 256).save(folder / f"{place:05}.png")
    served = Served(folder, "--classes", "one", "--size", "16")  # one class: no network is trained
    memory = []
    for turn in range(20_000 // 100):
        asked = served.http.post(
            "/api/ask", json={"person": "ann", "holder": "h", "count": 100}
        ).json()["questions"]
        for question in asked:
            assert (
                served.http.post(
                    "/api/tell", json={"question": question["id"], "label": 0, "person": "ann"}
                ).status_code
                == 200
            )
        if turn % 20 == 0:
            status = Path(f"/proc/{served.process.pid}/status").read_text()
            memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    served.stop()
    print("MB:", memory)
    assert memory[-1] - memory[1] < 40, memory
