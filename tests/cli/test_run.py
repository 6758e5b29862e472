"""dfal run: what a comparison leaves, and how wrong use of it is refused."""

import dataclasses
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfal import cli
from dfal.data.datasets import load
from dfal.experiments.recipes import RECIPES, describe_learning
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.training_settings import Training
from shell import OWN, SMALL, Shell


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
    before_tables = ran.out[: ran.out.index("Test accuracy")].splitlines()
    assert any(line.startswith("With 30 labels, dfal reaches ") for line in before_tables)
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
        assert f"\n{name}\t" in table, name
    assert re.search(r"^margin\+twins\tmargin\t[+−]\d", comparisons, re.MULTILINE)
    page = Path("s.html").read_text(encoding="utf-8")
    assert "<h2>Significance</h2>" in page
    assert page.count("<td>margin</td>") == 1


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


def test_any_images_in_one_file(dfal: Shell) -> None:
    data = load("mnist-5k")
    np.savez("mine.npz", images=data.images.array[::10, 0], labels=data.labels[::10].numpy())
    load.cache_clear()
    assert dfal("run", *SMALL, "--dataset", "mine.npz", "--strategy", "dfal").code == 0


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
        (["--batch", "0"], "--batch must be 1 or more images (got 0)"),
        (["--epochs", "0"], "must be 1 or more"),
        (["--holdout", "1.5"], "--holdout must be at least 0 and below 1 (got 1.5)"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--resume"], "No run to resume in runs/"),
        (["--resume", "--store", "none.db"], "No store none.db to resume"),
    ],
)
def test_wrong_options_leave_one_sentence_and_nothing_else(
    dfal: Shell, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    base = [] if "--resume" in arguments else SMALL
    assert sentence in dfal.refused("run", *base, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_nan_images_are_named(dfal: Shell, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((100, 28, 28)).astype(np.float32)
    images[17, 3, 3] = np.nan
    np.savez("mine.npz", images=images, labels=np.arange(100) % 2)
    load.cache_clear()
    assert "holds NaN or infinite values" in dfal.refused("run", *SMALL, "--dataset", "mine.npz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.npz"]


@pytest.mark.parametrize("network", ["softmax_network", "three_class_network"])
def test_networks_that_do_not_fit_are_refused(
    dfal: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments")
    sentence = dfal.refused("run", *SMALL, "--model", f"test_trial:{network}")
    assert (
        "probabilities" in sentence
        or "returns 3 logits an image, but mnist-5k has 10 classes" in sentence
    )
    assert list(tmp_path.iterdir()) == []


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


def _with_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}


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


def test_a_recipe_sets_training_and_first_images_and_options_change_one(dfal: Shell) -> None:
    given = ("run", "--recipe", "best", "--strategy", "random", "--seeds", "1", "-q")
    small = ("--annotations", "20", "--first", "20", "--steps", "3", "--warm-steps", "0")
    ran = dfal(*given, *small, "--unlabelled-batch", "8", "--augment", "none", "--store", "s.db")
    assert ran.code == 0, ran.err
    with Store(Path("s.db")) as store:
        (trial,) = (Trial.from_json(text) for text in store.trials().values())
    best = RECIPES["best"]["training"]
    changes = {"steps": 3, "warm_steps": 0, "unlabelled_batch": 8, "augment": "none"}
    assert trial.training == dataclasses.replace(best, **changes)
    assert (trial.first, trial.first_by) == (20, "typical")
    assert "there is no recipe 'bets': did you mean 'best'?" in dfal.refused(
        "run", "--recipe", "bets"
    )
    assert "leave out --recipe" in dfal.refused(
        "run", "--resume", "--recipe", "best", "--store", "s.db"
    )


def test_recipes_are_others_on_features(dfal: Shell) -> None:
    given = ("run", "--backbone", "pixels", "--recipe", "best", "--strategy", "random")
    ran = dfal(*given, "--seeds", "1", "--annotations", "10", "-q", "--store", "s.db")
    assert ran.code == 0, ran.err
    with Store(Path("s.db")) as store:
        (trial,) = (Trial.from_json(text) for text in store.trials().values())
    assert trial.training == Training(unlabelled="spreading")
    assert trial.first_by == "typical"
    assert describe_learning(trial) == "best"
