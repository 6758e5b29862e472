"""Data in files and folders are found again: from another working directory, and after they have
moved."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dfal
from dfal.cli import trials
from dfal.cli.commands import COMMANDS
from dfal.cli.places import absolute_files, stored_name
from dfal.cli.trials import latest_store, new_store
from dfal.data import datasets
from dfal.experiments import runner
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from shell import Shell

QUICK = [
    "--annotations",
    "16",
    "--batch",
    "3",
    "--epochs",
    "1",
    "--seeds",
    "1",
    "--strategy",
    "margin",
    "--candidates",
    "20",
]
QUICK += ["--first", "4", "--processes", "1"]


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Shell]:
    """The command line in a folder with the data `digits.npz` and the folder `photos`, which are
    the same images."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    np.savez("digits.npz", images=pixels, labels=np.arange(60) % 2)
    for place, image in enumerate(pixels):
        folder = tmp_path / "photos" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place}.png")
    yield Shell(capsys, monkeypatch)
    datasets.move({})


def only(path: str | Path) -> Trial:
    with Store(path) as store:
        (text,) = store.trials().values()
    return Trial.from_json(text)


@pytest.mark.parametrize("name", ["digits.npz", "photos"])
def test_a_run_goes_on_from_another_folder_and_after_its_data_moved(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    assert shell("run", *QUICK, "--dataset", name, "--store", "whole.db").code == 0
    assert shell.stopped_after(2, "run", *QUICK, "--dataset", name, "--store", "s.db").code == 130
    assert only("s.db").dataset == str(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    shell.monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copy(tmp_path / "s.db", "copy.db")
    assert shell("run", "--resume", "--store", "copy.db", "--processes", "1").code == 0
    (tmp_path / name).rename(f"moved-{name}")
    said = shell.refused("run", "--resume", "--store", "../s.db")
    assert (
        f"the data set {tmp_path / name} of ../s.db is no longer there: say --dataset with the path"
        " where it is now" in said
    )
    again = shell(
        "run", "--resume", "--store", "../s.db", "--dataset", f"moved-{name}", "--processes", "1"
    )
    assert again.code == 0, again.err
    with Store("../s.db") as resumed, Store("../whole.db") as whole, Store("copy.db") as copy:
        assert resumed.contents() == whole.contents() == copy.contents()
        assert resumed.environments()[-1]["places"] == {
            str(tmp_path / name): str(tmp_path / "elsewhere" / f"moved-{name}")
        }
    shell.monkeypatch.chdir(tmp_path)
    assert shell("run", "--resume", "--store", "s.db").code == 0, "its last place is remembered"
    assert shell("report", "s.db").code == 0
    assert "The pictures are missing" not in Path("s.html").read_text(encoding="utf-8")


def test_workers_find_data_that_moved(shell: Shell, tmp_path: Path) -> None:
    command = [*QUICK, "--dataset", "digits.npz", "--strategy", "random", "--store", "s.db"]
    assert shell.stopped_after(2, "run", *command).code == 130
    Path("digits.npz").rename("moved.npz")
    ran = shell("run", "--resume", "--store", "s.db", "--dataset", "moved.npz", "--processes", "2")
    assert ran.code == 0, ran.err


def test_other_data_are_refused(shell: Shell) -> None:
    assert (
        shell.stopped_after(2, "run", *QUICK, "--dataset", "digits.npz", "--store", "s.db").code
        == 130
    )
    np.savez("other.npz", images=np.zeros((60, 28, 28), np.uint8), labels=np.arange(60) % 2)
    for other in ("other.npz", "mnist-5k"):
        assert f"{other} is not the data set that s.db was made with" in shell.refused(
            "run", "--resume", "--store", "s.db", "--dataset", other
        )
    Path("other.npz").rename("digits.npz")
    said = shell.refused("run", "--resume", "--store", "s.db")
    assert "is not the one that s.db began with" in said
    assert "digits.npz" in said


def test_a_store_with_a_relative_path_keeps_its_ids(shell: Shell, tmp_path: Path) -> None:
    training = dfal.Training(epochs=1)
    trial = Trial(
        "digits.npz",
        strategy=dfal.Margin(candidates=20),
        annotations=16,
        batch=3,
        first=4,
        training=training,
    )
    with Store("s.db", write=True) as store:
        for place, _ in enumerate(runner.run([trial], store, 1)):
            if place == 1:
                break
    assert shell("run", *QUICK, "--dataset", "digits.npz", "--store", "s.db").code == 0, (
        "by the same command"
    )
    assert only("s.db") == trial
    (tmp_path / "elsewhere").mkdir()
    shell.monkeypatch.chdir(tmp_path / "elsewhere")
    assert shell("run", *QUICK, "--dataset", "../digits.npz", "--store", "../s.db").code == 0
    assert shell("run", "--resume", "--store", "../s.db").code == 0
    assert only("../s.db") == trial


def test_a_name_of_a_data_set_is_no_path(shell: Shell) -> None:
    assert stored_name("mnist-5k", Path("none.db")) == "mnist-5k"
    assert "there is no data set 'nothing'" in shell.refused("run", *QUICK, "--dataset", "nothing")


def test_rows_of_ones_own_are_stored_by_their_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = dfal.WithTwins(dfal.TypiClust(space="rows.npy"))
    made = absolute_files(plain, Path("s.db"))
    assert made == dfal.WithTwins(dfal.TypiClust(space=str(tmp_path / "rows.npy")))
    assert absolute_files(dfal.UHerding(), Path("s.db")) == dfal.UHerding()
    trial = Trial(strategy=plain)
    with Store("s.db", write=True) as store:
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
    assert absolute_files(plain, Path("s.db")) == plain, "that of a store stays as it is"


def begin(folder: str, at: str | None) -> None:
    with Store(Path("runs") / folder / "study.db", write=True) as store:
        if at is not None:
            store.add_run({}, {"at": at})
            store.add_run({}, {"at": "2030-01-01T00:00:00+00:00"})  # gone on with


def test_the_latest_run_is_the_one_that_was_begun_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name says: that of local time, another zone's, or no time at all."""
    monkeypatch.chdir(tmp_path)
    begin("2026-03-01-090000", "2026-03-01T17:00:00+00:00")  # local time in California, begun last
    begin("2026-03-02-010000", "2026-03-01T16:00:00+00:00")  # local time in Tokyo
    begin("mine", "2026-02-01T12:00:00+00:00")
    begin("zone", "2026-03-01T17:59:00+01:00")  # is 16:59 in UTC
    begin("never begun", None)
    (tmp_path / "runs" / "no store").mkdir()
    (tmp_path / "runs" / "no store" / "study.db").write_text("no store")
    assert latest_store().parent.name == "2026-03-01-090000"


def test_a_new_run_is_named_in_utc_and_goes_into_no_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SetBack(datetime):
        """A clock that was set back: it says again what it said before."""

        @classmethod
        def now(cls, tz: object = None) -> "SetBack":
            assert tz is UTC
            return cls(2026, 3, 1, 16, 0, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "datetime", SetBack)
    assert str(new_store()) == "runs/2026-03-01-160000/study.db"
    (tmp_path / "runs" / "2026-03-01-160000").mkdir(parents=True)
    assert str(new_store()) == "runs/2026-03-01-160000-2/study.db"


EMPTY = [
    ["run", "--store", ""],
    ["run", "--dataset", ""],
    ["reproduce", "table1", "--store", ""],
    ["reproduce", "table1", "--tables", ""],
    ["reproduce", "table1", "--dataset", ""],
    ["report", ""],
    *(["report", "s.db", option, ""] for option in ("--out", "--csv", "--tables", "--figures")),
    ["label", "", "--classes", "a", "b"],
    ["label", "photos", "--store", ""],
    ["label", "photos", "--labels", ""],
    ["export", ""],
    ["export", "s.db", "--out", ""],
    ["predict", "", "photos"],
    ["predict", "m.safetensors", ""],
    ["predict", "m.safetensors", "photos", "--out", ""],
    ["model", ""],
    ["model", "m.safetensors", "--onnx", ""],
    ["data", "mnist-5k", "--picture", ""],
]


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_an_empty_path_is_refused(shell: Shell, tmp_path: Path, arguments: list[str]) -> None:
    """Of a variable that is not set, say: it would be the working directory."""
    there = sorted(tmp_path.rglob("*"))
    assert "is empty: " in shell.refused(*arguments)
    assert sorted(tmp_path.rglob("*")) == there


def test_every_path_of_every_command_refuses_an_empty_one() -> None:
    from click import Path as Plain

    kinds = [param.type for command in COMMANDS.values() for param in command.params]
    assert not any(isinstance(kind, Plain) for kind in kinds)
    assert sum(type(kind).__name__ == "_NonEmptyPath" for kind in kinds) > 15


@pytest.mark.parametrize("command", ["report", "export"])
@pytest.mark.parametrize("folder", [".", "..", "photos", "/"])
def test_a_folder_is_no_store(shell: Shell, command: str, folder: str) -> None:
    assert "is a folder: name" in shell.refused(command, folder)


def test_a_folder_of_a_run_names_the_store_in_it(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "photos" / "study.db").write_text("")
    assert "photos is a folder: name the store in it, photos/study.db" in shell.refused(
        "report", "photos"
    )
