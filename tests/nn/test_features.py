"""Features: the input of the last linear layer that a network runs."""

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.features import last_linear


def test_features_are_the_input_of_the_last_linear_layer_that_runs(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.features(trained, some_digits)
    assert found.shape == (48, 10)
    torch.testing.assert_close(trained[-1](found), dfal.predict(trained, some_digits))

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(5, 2), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x).relu())
            return out

    model = Shuffled()
    x = torch.randn(6, 4)
    torch.testing.assert_close(dfal.features(model, x), model.first(x).relu())
    assert not model.last._forward_pre_hooks


def test_features_of_a_network_without_linear_layer_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 28), nn.Flatten())
    with pytest.raises(dfal.DfalError, match=r"runs no nn\.Linear"):
        dfal.features(model, torch.rand(2, 1, 28, 28))


def test_the_last_linear_layer_is_weights_features_and_logits(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    end = last_linear(trained, some_digits)
    assert end.layer is trained[-1]
    torch.testing.assert_close(
        end.features @ end.weight.T + end.bias, dfal.predict(trained, some_digits)
    )


def test_features_are_chunked_and_the_same(trained: nn.Sequential, some_digits: Tensor) -> None:
    torch.testing.assert_close(
        dfal.features(trained, some_digits, chunk=7), dfal.features(trained, some_digits)
    )


def test_a_linear_layer_that_sees_no_row_an_image_gives_no_features() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Linear(32, 6), nn.Unflatten(0, (2, 3)))
    with pytest.raises(dfal.DfalError, match="give it one row an image"):
        dfal.features(model, torch.rand(2, 1, 4, 4))
