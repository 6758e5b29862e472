"""`dfal label --model` shows a network images of the size for which it was made."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor, nn

import dfal
from dfal.labelling.setup import open_session

NAME = __name__


class Sized(nn.Module):
    """A network that takes images of one size, and says so."""

    def __init__(self, image: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.input_size = image
        c, h, w = image
        self.body, self.last = nn.AvgPool2d(4), nn.Linear(c * (h // 4) * (w // 4), classes)

    def forward(self, x: Tensor) -> Any:
        if tuple(x.shape[1:]) != self.input_size:
            raise AssertionError(f"Wrong image height! Expected {self.input_size[1]}")
        return {"logits": self.last(self.body(x).flatten(1))}


def of_96_pixels(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Sized((3, 96, 96), classes)


def of_any_size(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Sized(image, classes)


def of_no_square(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Sized((3, 96, 128), classes)


def of_one_head(image: tuple[int, int, int], classes: int) -> nn.Module:
    return Sized(image, 1000)


def of_squares_of_28(image: tuple[int, int, int], classes: int) -> nn.Module:
    if image[1] % 28:
        raise ValueError("Input shape indivisible by patch size!")
    return Sized(image, classes)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Grey images of several sizes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(24):
        Image.new("L", (40 + place, 50), 10 * place).save(folder / f"{place:02}.png")
    return folder


def opened(photos: Path, **options: Any) -> tuple[tuple[int, int, int], int]:
    """The shape of the images of a session, and the size that its store has."""
    with contextlib.ExitStack() as stack:
        session, folder = open_session(
            stack, photos, photos.parent / "labels.db", ["dark", "light"], options=options
        )
        return folder.shape, session.settings.size


def test_the_networks_own_size_and_channels_are_used_and_stay(photos: Path) -> None:
    name = f"{NAME}:of_96_pixels"
    assert opened(photos, model=name) == ((96, 96, 3), 96)
    assert opened(photos, model=name) == ((96, 96, 3), 96)


def test_a_network_for_any_size_gets_what_suits_the_folder(photos: Path) -> None:
    assert opened(photos, model=f"{NAME}:of_any_size") == ((64, 64, 1), 64)


def test_size_overrides_it(photos: Path) -> None:
    assert opened(photos, model=f"{NAME}:of_any_size", size=40) == ((40, 40, 1), 40)


def test_a_size_that_alone_is_possible_is_not_tried_beside_another(photos: Path) -> None:
    assert opened(photos, model=f"{NAME}:of_squares_of_28", size=56) == ((56, 56, 1), 56)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": f"{NAME}:of_96_pixels", "size": 32}, r"cannot be used: .*Expected 96"),
        ({"model": f"{NAME}:of_no_square"}, r"for images of 96 × 128 pixels, .* --size 96"),
        ({"model": f"{NAME}:of_one_head"}, r"returns 1000 logits an image for 2 classes"),
        ({"model": f"{NAME}:of_squares_of_28"}, r"indivisible by patch size"),
        ({"model": f"{NAME}:of_nothing"}, r"there is no 'of_nothing'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_stored(
    photos: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        opened(photos, **options)
    assert not list(photos.parent.glob("*.db"))
