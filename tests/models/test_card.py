"""Cards of models: which are refused, and what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dfal.errors import DfalError
from dfal.models import (
    load,
)
from saved_models import DIGITS, forged


@pytest.mark.parametrize(
    "card",
    [
        {"image": [1, 28]},
        {"image": [1, -28, 28]},
        {"image": ["1", 28, 28]},
        {"image": 3},
        {"classes": ["a"]},
        {"classes": [1, 2]},
        {"classes": ...},
        {"network": 5},
        {"surprise": 1},
        {"interval": [1]},
        {"accuracy": "high"},
        {"annotations": "many"},
        {"annotations": True},
        {"versions": ["1.0"]},
        {"temperature": 0},
        {"temperature": -1.5},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"temperature": "2"},
        {"temperature": True},
        {"classes": "ab"},
    ],
)
def test_a_card_of_another_form_is_one_sentence(
    tmp_path: Path, trained: nn.Sequential, card: dict[str, Any]
) -> None:
    with pytest.raises(
        DfalError, match=r"the card in .* is of another version of dfal, or damaged"
    ):
        load(forged(tmp_path / "x.safetensors", trained.state_dict(), **card))


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"image": [3, 28, 28]}, "weights in .* do not fit the network lenet5"),
        ({"image": [1, 30_000, 30_000]}, "do not fit"),  # and no terabyte is asked for
        ({"image": [1, 8, 8]}, "needs images of at least 16"),
        ({"classes": ["a", "b"]}, "do not fit"),
        ({"network": "vgg8"}, "do not fit"),
        ({"network": "os:system"}, "say --model os:system if its code may be run"),
    ],
)
def test_a_card_that_does_not_fit_the_weights_is_one_sentence(
    tmp_path: Path, trained: nn.Sequential, card: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DfalError, match=sentence) as raised:
        load(forged(tmp_path / "x.safetensors", trained.state_dict(), **card))
    assert "\n" not in str(raised.value)


def test_a_card_reads_like_sentences() -> None:
    lines = DIGITS.lines()
    assert lines["accuracy"] == "87.0% (95 % CI 84.0% to 90.0%) on 500 images held out at random"
    assert lines["trained on"] == "200 annotations"
    assert lines["images"].startswith("28×28 pixels, grey")
    few = replace(DIGITS, accuracy=1.0, interval=(0.51, 1.0), held_out=4).lines()["accuracy"]
    assert few.endswith("on 4 images held out at random; fewer than 20 are too few to rely on")
    assert replace(DIGITS, accuracy=None).lines()["accuracy"] == "not measured"
    assert set(DIGITS.versions) == {"dfal", "torch", "numpy", "pillow", "python"}


def test_a_card_of_an_older_model_says_that_it_is_not_calibrated(
    tmp_path: Path, trained: nn.Sequential
) -> None:
    old = load(forged(tmp_path / "old.safetensors", trained.state_dict(), temperature=...))
    assert old.card == DIGITS
    assert old.card.temperature is None
    assert old.card.lines()["confidence"] == "not calibrated"
    assert (
        replace(DIGITS, temperature=1.834).lines()["confidence"] == "calibrated (temperature 1.83)"
    )
