"""dfal train: what it prints, writes, and says where it cannot."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfal import models
from dfal.labelling.learning import final
from dfal.labelling.settings import Settings
from dfal.labelling.store.session import Session
from dfal.nn.training_settings import Training
from shell import Shell


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with 30 answers about 60 grey images: even ones are dark."""
    (tmp_path / "photos").mkdir()
    paths = [f"{number:02}.png" for number in range(60)]
    rng = np.random.default_rng(0)
    for number, path in enumerate(paths):
        pixels = rng.normal(90 + 70 * (number % 2), 20, (20, 20)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / path)
    settings = Settings(
        folder=str(tmp_path / "photos"),
        backbone="pixels",
        size=20,
        channels=1,
        training=Training(epochs=8, training_batch=16),
    )
    with Session.start(tmp_path / "p.labels.db", settings, paths, ["dark", "light"]) as session:
        for _ in range(30):
            (question,) = session.ask(1)
            session.tell(question, question.image % 2)
    return tmp_path / "p.labels.db"


def test_it_says_what_was_trained_and_the_model_predicts(dfal: Shell, store: Path) -> None:
    ran = dfal("train", "p.labels.db")
    assert ran.code == 0, ran.err
    lines = dict(line.split("\t", 1) for line in ran.out.splitlines() if "\t" in line)
    assert lines["network"] == "a linear layer on pixels"
    assert "there is nothing more to train" in lines["chosen"]
    assert lines["trained on"].startswith("24 labels, 24 of them given by people, and ")
    assert lines["accuracy"].startswith("100.0% (95 % CI ")
    assert lines["accuracy"].endswith(" of 6 hold-out answers")
    assert {"  dark", "  light"} <= lines.keys()
    assert "dfal predict p.final.safetensors FOLDER" in ran.out
    assert "dfal model p.final.safetensors --onnx FILE" in ran.out
    assert ran.err == ""
    assert sorted(path.name for path in Path().glob("p.*")) == [
        "p.final.safetensors",
        "p.labels.db",
    ]


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter, about itself
def test_json_and_onnx_say_the_same(dfal: Shell, store: Path) -> None:
    ran = dfal(
        *("train", "p.labels.db", "--json", "--backbone", "none", "--no-fine-tune"),
        "--labels-only",
        *("--out", "m.safetensors", "--onnx", "m.onnx", "--seed", "1"),
    )
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["path"], told["onnx"], told["labels"]) == ("m.safetensors", "m.onnx", 24)
    assert told["network"] == "lenet5 from scratch"
    assert told["accuracy"]["of"] == 6
    assert told["accuracy"]["low"] <= told["accuracy"]["value"] <= told["accuracy"]["high"]
    card = models.load(Path("m.safetensors")).card
    assert card.accuracy == told["accuracy"]["value"]
    assert "trained by dfal train on 24 labels: lenet5 from scratch" in card.about
    import onnxruntime

    metadata = onnxruntime.InferenceSession("m.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["dark", "light"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.db"], "there is no store none.db"),
        (["photos"], "photos is a folder: name a store that `dfal label` made"),
        (["p.labels.db", "--augment", "fotos"], "there is no augmentation 'fotos'"),
        (["p.labels.db", "--epochs", "0"], "--epochs must be 1 or more"),
        (["p.labels.db", "--size", "4"], "--size must be 8 to 2048 pixels, or 0 (got 4)"),
        (["p.labels.db", "--minutes", "0"], "--minutes must be more than 0"),
        (["p.labels.db", "--device", "gpu"], "there is no device 'gpu'"),
        (["p.labels.db", "--out", "p.labels.db"], "is there already and no model of dfal"),
        (["photos/00.png"], "photos/00.png"),
    ],
)
def test_wrong_use_is_one_sentence(
    dfal: Shell, store: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in dfal.refused("train", *arguments)
    assert not [*Path().rglob("*.safetensors")]


def test_ctrl_c_leaves_the_model_that_was_there(
    dfal: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dfal("train", "p.labels.db", "-q").out == ""
    before = Path("p.final.safetensors").read_bytes()
    with monkeypatch.context() as patch:

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(final, "_measure", stopped)
        ran = dfal("train", "p.labels.db", "--seed", "3")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == ("dfal: stopped; no model was written: run the same command to start again\n")
    assert Path("p.final.safetensors").read_bytes() == before
    again = dfal("train", "p.labels.db", "-q")
    assert again.code == 0
    assert Path("p.final.safetensors").read_bytes() == before, "another result"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_training_leaves_the_model_that_was_there(dfal: Shell, store: Path) -> None:
    assert dfal("train", "p.labels.db", "-q").code == 0
    before = Path("p.final.safetensors").read_bytes()
    command = [sys.executable, "-m", "dfal", "train", "p.labels.db", "--backbone", "none"]
    process = subprocess.Popen([*command, "--fine-tune"], stderr=subprocess.PIPE)
    status = Path(f"/proc/{process.pid}/status")
    until = time.monotonic() + 120
    while status.exists() and time.monotonic() < until:  # training has begun: PyTorch is loaded
        if "libtorch" in Path(f"/proc/{process.pid}/maps").read_text():
            break
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert Path("p.final.safetensors").read_bytes() == before
    assert models.load(Path("p.final.safetensors")).card.held_out == 6
