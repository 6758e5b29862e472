"""Preparing images, freezing networks and checking their logits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import dfal
from dfal.nn.evaluation import frozen_eval
from dfal.nn.inference import check_logits, logits
from dfal.nn.network_input import prepare_images
from dfal.nn.networks import build
from small_networks import Wrapped


def test_frozen_eval_is_in_evaluation_mode_without_parameter_gradients() -> None:
    model = dfal.lenet5().train()
    with frozen_eval(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_one_logit_becomes_two() -> None:
    out = logits(nn.Linear(3, 1), torch.zeros(4, 3))
    assert out.shape == (4, 2)
    assert (out[:, 0] == 0).all()
    torch.testing.assert_close(out.softmax(1)[:, 1], out[:, 1].sigmoid())


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nn.Identity(), r"shape \(N, C\) for N = 2 images, but it returned \(2, 1, 4, 4\)"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(32, 3)), r"returned \(3,\)"),
        (nn.LSTM(4, 4), "returned tuple|batched"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)), "returns probabilities"),
    ],
)
def test_what_is_no_logits_is_refused(model: nn.Module, sentence: str) -> None:
    images = torch.rand(2, 4, 4) if isinstance(model, nn.LSTM) else torch.rand(2, 1, 4, 4)
    with pytest.raises(dfal.DfalError, match=sentence):
        logits(model, images)


def test_predict_is_chunked_and_the_same() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).train()
    images = torch.rand(10, 1, 4, 4)
    torch.testing.assert_close(dfal.predict(model, images, chunk=3), dfal.predict(model, images))
    assert model.training


def test_other_outputs_than_a_tensor_are_refused_with_the_way_out() -> None:
    f = torch.rand(2, 3)
    with pytest.raises(
        dfal.DfalError, match=r"but it returned tuple: wrap it in a module that returns out\[0\]"
    ):
        check_logits((f, f), 2)


@pytest.mark.parametrize(
    "look",
    [dfal.predict, dfal.features, dfal.DeepFool(), dfal.FGSM(), dfal.LinearHead()],
    ids=["predict", "features", "DeepFool", "FGSM", "LinearHead"],
)
def test_images_that_the_network_cannot_take_are_one_sentence(look: Callable[..., object]) -> None:
    for model in (dfal.lenet5(), Wrapped(dfal.lenet5())):
        with pytest.raises(
            dfal.DfalError,
            match=r"cannot take images of shape \(28, 28, 1\) .* images.permute\(0, 3, 1, 2\)",
        ):
            look(model, torch.rand(2, 28, 28, 1))
        assert look(model.double(), torch.rand(2, 1, 28, 28)) is not None


def test_images_that_are_no_floating_point_tensor_are_refused() -> None:
    with pytest.raises(dfal.DfalError, match=r"they are torch.uint8: try images.float\(\) / 255"):
        prepare_images(dfal.lenet5(), torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(dfal.DfalError, match=r"they are ndarray: try torch.as_tensor"):
        prepare_images(dfal.lenet5(), np.zeros((2, 1, 28, 28)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lenet", "there is no network 'lenet': did you mean 'lenet5'?"),
        ("no_such_module:net", "cannot be found"),
        ("dfal.nn.networks:no_such", "cannot be found"),
        ("dfal.nn.networks:", "cannot be found"),
        ("builtins:dict", "returned dict, but a torch.nn.Module is needed"),
    ],
)
def test_what_is_no_network_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        build(name, (1, 28, 28), 10)
