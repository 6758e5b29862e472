"""The backbone that is used where nobody names one."""

import pytest

from dfal.backbones import automatic
from dfal.backbones.automatic_choice import SMALLER, SMALLER_SIDE, milliseconds


def test_the_most_accurate_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfal.backbones.automatic_choice.milliseconds", lambda backbone: 5.0)
    chosen = automatic()
    assert chosen is not None
    assert (chosen.backbone.name, chosen.note) == ("lite2", "")
    monkeypatch.setattr("dfal.backbones.automatic_choice.installed", lambda: ["lite0"])
    chosen = automatic()
    assert chosen is not None
    assert chosen.backbone.name == "lite0"
    monkeypatch.setattr("dfal.backbones.automatic_choice.installed", list)
    assert automatic() is None


def test_a_slow_machine_sees_smaller_images_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfal.backbones.automatic_choice.milliseconds", lambda backbone: 140.4)
    chosen = automatic()
    assert chosen is not None
    assert chosen.backbone.name == SMALLER
    assert chosen.backbone.image == (3, SMALLER_SIDE, SMALLER_SIDE)
    assert chosen.note.startswith("This machine takes 140 ms for an image with lite2")
    wanted = automatic((3, 96, 96))
    assert wanted is not None
    assert (wanted.backbone.image, wanted.note) == ((3, 96, 96), "")


def test_the_time_of_an_image_is_measured() -> None:
    chosen = automatic((3, 64, 64))
    assert chosen is not None
    assert 0 < milliseconds(chosen.backbone) < 10_000
