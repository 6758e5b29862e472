"""dfal run --backbone, --size and --fit: what they leave, and how wrong use is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dfal.experiments import trial_data
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from shell import Shell

TINY = ["--annotations", "12", "--first", "6", "--batch", "6", "--seeds", "1", "--processes", "1"]
CODE = """
import dfal
from torch import nn
from dfal.backbones import Backbone

def patches(image=None):
    c, h, w = image or (3, 16, 16)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    return Backbone("patches", network, (c, h, w), c * (h // 4) * (w // 4))

def quick(make, data, seed):
    return dfal.fit(make, data, dfal.Training(epochs=2), seed)

def broken(make, data, seed):
    return None
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dfal: Shell) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    trial_data.forget()
    (tmp_path / "mine_run.py").write_text(CODE)
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "grey.npz", images=images, labels=np.arange(60) % 3)
    return tmp_path


def trials(path: Path) -> list[Trial]:
    with Store(path) as store:
        return [Trial.from_json(text) for text in store.trials().values()]


def test_a_study_on_features(dfal: Shell, folder: Path) -> None:
    on = ["--dataset", "grey.npz", "--backbone", "pixels", "--strategy", "dfal,random,badge"]
    ran = dfal("run", *on, *TINY, "--epochs", "5", "--store", "s.db")
    assert ran.code == 0, ran.err
    assert "grey.npz, linear on pixels" in ran.out
    page = (folder / "s.html").read_text()
    assert "<dt>network</dt><dd>linear on pixels</dd>" in page
    assert "data:image/png" in page, "queried images are shown as images"
    assert len(list((folder / "cache" / "features").glob("pixels-16-*.npy"))) == 1
    assert {trial.model for trial in trials(folder / "s.db")} == {"linear"}
    again = dfal("run", *on, *TINY, "--epochs", "5", "--store", "s.db", "--json")
    assert again.code == 0, again.err
    titles = {table["title"] for table in json.loads(again.out)["tables"]}
    assert any("linear on pixels" in title for title in titles)


def test_studies_of_other_features_are_never_mixed(dfal: Shell, folder: Path) -> None:
    pixels = ["--backbone", "pixels"]
    for extra in (pixels, [*pixels, "--size", "8"], ["--model", "linear", "--size", "20"]):
        ran = dfal(
            "run",
            "--dataset",
            "grey.npz",
            "--strategy",
            "random",
            *TINY,
            *extra,
            "--epochs",
            "2",
            "--store",
            "s.db",
            "-q",
        )
        assert ran.code == 0, ran.err
    ran = dfal("report", "s.db", "--csv", "all.csv")
    for title in ("linear on pixels", "linear on pixels at 8 pixels", "linear at 20 pixels"):
        assert f"grey.npz, {title}" in ran.out.replace("\n", " ")
    with (folder / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["backbone"], row["size"]) for row in rows} == {
        ("pixels", "0"),
        ("pixels", "8"),
        ("", "20"),
    }
    assert {row["unlabelled"] for row in rows} == {"none"}


def test_own_code_is_run_again_only_where_it_is_named(dfal: Shell, folder: Path) -> None:
    code = ["--backbone", "mine_run:patches", "--fit", "mine_run:quick"]
    ran = dfal(
        "run", "--dataset", "grey.npz", "--strategy", "random", *TINY, *code, "--store", "s.db"
    )
    assert ran.code == 0, ran.err
    assert "grey.npz, linear on mine_run:patches, fit mine_run:quick" in ran.out.replace("\n", " ")
    for given, wanted in (
        ([], "the backbone mine_run:patches: say --backbone mine_run:patches"),
        (code[:2], "the training mine_run:quick: say --fit mine_run:quick"),
    ):
        refused = dfal("run", "--resume", "--store", "s.db", *given)
        assert (refused.code, wanted in refused.err) == (2, True), refused.err
    again = dfal("run", "--resume", "--store", "s.db", *code)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "lite9"], "there is no backbone 'lite9'"),
        (
            ["--backbone", "pixels", "--model", "lenet5"],
            "lenet5 takes images, but --backbone gives",
        ),
        (["--backbone", "pixels", "--model", "vgg8"], "vgg8 takes images"),
        (["--size", "3"], "--size must be 8 to 2048 pixels, or 0 (got 3)"),
        (
            ["--fit", "mine_run:broken"],
            "must be a torch.nn.Module that returns logits, but it is NoneType",
        ),
        (["--fit", "mine_run:absent"], "there is no 'absent' in"),
        (["--fit", "quick"], "the training 'quick' has no colon"),
        (
            ["--unlabelled", "magic"],
            "--unlabelled must be none, spreading, pseudo-labels, vat or consistency",
        ),
        (["--unlabelled", "spreading"], "--unlabelled must not be spreading without --backbone"),
        (["--fit", "mine_run:quick", "--epochs", "3"], "--fit has no use for --epochs"),
        (["--backbone", "pixels", "--strategy", "dfal", "--annotations", "500"], "more than the"),
    ],
)
def test_wrong_use_is_one_sentence(dfal: Shell, options: list[str], sentence: str) -> None:
    ran = dfal(
        "run",
        "--dataset",
        "grey.npz",
        "--model",
        "linear",
        "--strategy",
        "random",
        *TINY,
        "--store",
        "s.db",
        *options,
    )
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
