"""dfal predict and dfal model: labels by a saved model, and its card."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from dfal import models
from dfal.data.datasets import load
from shell import Shell


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
            "dfal: n.safetensors: accuracy 90.0% (95 % CI 84.0% to 94.0%) on 150 images held"
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
