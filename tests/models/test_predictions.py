"""Predicted classes, confidences and distances of image files."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor, nn

import dfal
from dfal.models import (
    Prediction,
    SavedModel,
    label,
    load,
    predictions,
    save,
)
from saved_models import DIGITS


@pytest.fixture
def photos(tmp_path: Path, some_digits: Tensor) -> list[Path]:
    """Digits as files, one of which is broken."""
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{number:02}.png" for number in range(12)]
    for path, digit in zip(paths, some_digits, strict=False):
        Image.fromarray(digit[0].mul(255).round().byte().numpy()).save(path)
    paths[5].write_bytes(b"hello")
    return paths


def test_files_are_labelled_as_the_network_sees_them(
    photos: list[Path], trained: nn.Sequential, some_digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 5)
    found = list(label(SavedModel(trained, DIGITS), photos, distances=True))
    assert found[5] == (photos[5], "it is no JPEG, PNG, WebP, GIF or TIFF, whatever its name says")
    kept = [row for row in range(12) if row != 5]
    confidences, labels = dfal.predict(trained, some_digits[kept]).softmax(1).max(1)
    distances = dfal.DeepFool()(trained, some_digits[kept]).distance
    for place, row in enumerate(kept):
        one = found[row]
        assert isinstance(one, Prediction)
        assert (one.path, one.label) == (photos[row], str(int(labels[place])))
        assert one.confidence == pytest.approx(float(confidences[place]), abs=1e-5)
        assert one.distance == pytest.approx(float(distances[place]), rel=1e-3)
    plain = next(iter(label(SavedModel(trained, DIGITS), photos)))
    assert isinstance(plain, Prediction)
    assert plain.distance is None


def test_a_calibrated_model_predicts_the_same_classes_with_other_confidences(
    photos: list[Path], trained: nn.Sequential, some_digits: Tensor, tmp_path: Path
) -> None:
    save(trained, replace(DIGITS, temperature=2.5), tmp_path / "m.safetensors")
    saved = load(tmp_path / "m.safetensors")
    assert saved.card.temperature == 2.5
    raw, calibrated = (
        list(label(SavedModel(trained, card), photos[:3], True)) for card in (DIGITS, saved.card)
    )
    wanted = (dfal.predict(trained, some_digits[:3]) / 2.5).softmax(1).amax(1).tolist()
    for before, after, confidence in zip(raw, calibrated, wanted, strict=True):
        assert isinstance(before, Prediction)
        assert isinstance(after, Prediction)
        assert after.label == before.label
        assert after.distance == pytest.approx(before.distance, rel=1e-4)
        assert after.confidence == pytest.approx(confidence, abs=1e-5)
        assert after.confidence < before.confidence


def test_a_part_of_broken_files_alone(photos: list[Path], trained: nn.Sequential) -> None:
    assert [type(one) for one in label(SavedModel(trained, DIGITS), [photos[5]])] == [tuple]


def test_the_first_rows_come_before_a_pipe_is_closed(model_file: Path, photos: list[Path]) -> None:
    """`dfal predict … | head -1` ends without a complaint."""
    command = [sys.executable, "-m", "dfal", "predict", str(model_file), str(photos[0].parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()
