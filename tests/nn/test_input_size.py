"""A network says for which images it was made, in whichever way its library has."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.input_size import image_of

GIVEN = (3, 64, 64)


class Telling(nn.Module):
    """A network with attributes of the names given."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("told", "image"),
    [
        ({"input_size": (1, 30, 40)}, (1, 30, 40)),
        ({"input_size": [30, 40]}, (3, 30, 40)),
        ({"pretrained_cfg": {"input_size": (3, 176, 176)}}, (3, 176, 176)),
        ({"default_cfg": {"input_size": (1, 96, 96)}}, (1, 96, 96)),
        ({"config": SimpleNamespace(image_size=224, num_channels=1)}, (1, 224, 224)),
        ({"config": SimpleNamespace(image_size=[32, 48], num_channels=4)}, (4, 32, 48)),
        ({"config": SimpleNamespace(image_size=96)}, (3, 96, 96)),
        ({"image_size": 224}, (3, 224, 224)),
        (
            {"input_size": (3, 20, 20), "pretrained_cfg": {"input_size": (3, 224, 224)}},
            (3, 20, 20),
        ),
    ],
)
def test_what_a_network_says_is_found(told: dict[str, Any], image: tuple[int, ...]) -> None:
    assert image_of(Telling(**told), GIVEN) == image
    wrapped = nn.Sequential(nn.Identity(), nn.Sequential(Telling(**told)))
    assert image_of(nn.DataParallel(wrapped), GIVEN) == image


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"input_size": 784},
        {"input_size": (3, 0, 224)},
        {"input_size": "224"},
        {"input_size": (224,)},
        {"input_size": (2, 3, 224, 224)},
        {"pretrained_cfg": None},
        {"pretrained_cfg": {"mean": 0.5}},
        {"config": SimpleNamespace(hidden_size=8)},
        {"config": SimpleNamespace(image_size=None, num_channels=3)},
    ],
)
def test_a_network_that_says_nothing_leaves_the_size_open(told: dict[str, Any]) -> None:
    assert image_of(Telling(**told), GIVEN) == GIVEN
    assert image_of(nn.Sequential(nn.LSTM(28, 8), Telling(**told)), GIVEN) == GIVEN


def test_the_outermost_module_decides() -> None:
    inner = Telling(input_size=(3, 224, 224))
    outer = nn.Sequential(inner)
    outer.input_size = (3, 96, 96)  # type: ignore[assignment]
    assert image_of(outer, GIVEN) == (3, 96, 96)


class OneSize(nn.Module):
    """As vision transformers of other libraries, it takes images of one size only."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error, self.last = error, nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Any:
        if x.shape[2] != 4:
            raise self.error(f"Input height ({x.shape[2]}) doesn't match model (4).")
        return self.last(x.flatten(1))


@pytest.mark.parametrize("error", [AssertionError, ValueError, RuntimeError])
def test_images_of_another_size_are_one_sentence(error: type[Exception]) -> None:
    model, images = OneSize(error), torch.rand(6, 3, 8, 8)
    pool = dfal.Pool.new(images, {0: 0, 1: 1})
    looks: list[Callable[[], object]] = [
        lambda: dfal.predict(model, images),
        lambda: dfal.features(model, images),
        lambda: dfal.DeepFool()(model, images),
        lambda: dfal.FGSM()(model, images),
        lambda: dfal.EGL()(model, pool, 1, dfal.generator(0, 0, "select")),
        lambda: dfal.fit(lambda: model, pool.labelled_data(), dfal.Training(epochs=1), 0),
    ]
    for look in looks:
        with pytest.raises(
            dfal.DfalError, match=r"cannot take images of shape \(3, 8, 8\) \(Input height \(8\)"
        ):
            look()
    assert dfal.predict(model, images[:, :, :4, :4]).shape == (6, 3)
