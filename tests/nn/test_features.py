"""Features: the input of the module that a network names, or of its last linear layer."""

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.ensemble import Ensemble
from dfal.nn.features import last_layer_inputs, last_linear


def test_features_of_lenet5_are_its_84(trained: nn.Sequential, some_digits: Tensor) -> None:
    found = dfal.features(trained, some_digits)
    assert found.shape == (48, 84)
    assert bool((found >= 0).all())  # after the ReLU
    with torch.no_grad():
        torch.testing.assert_close(trained[12:](found), dfal.predict(trained, some_digits))
    assert not trained[12]._forward_pre_hooks


class Own(nn.Module):
    """A network with two linear layers behind its features, and what it calls them."""

    def __init__(self, place: str = "head.0") -> None:
        super().__init__()
        self.body, self.unused = nn.Linear(4, 5), nn.Linear(4, 2)
        self.head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3), nn.Linear(3, 2))
        self.features_before = place

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


def test_features_are_before_the_module_that_a_network_names() -> None:
    model, x = Own(), torch.randn(6, 4)
    torch.testing.assert_close(dfal.features(model, x), model.body(x))
    assert dfal.features(model, x[:1]).shape == (1, 5)
    torch.testing.assert_close(dfal.features(nn.DataParallel(model), x), model.body(x))
    torch.testing.assert_close(last_layer_inputs(model, x), model.head[:2](model.body(x)))
    ensemble = Ensemble([nn.Linear(4, 2), model])
    torch.testing.assert_close(dfal.features(ensemble, x), model.body(x))
    torch.testing.assert_close(dfal.features(model, x, chunk=4), model.body(x))


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("haed.0", "none of its modules: give one of body, unused, head, head.0"),
        (1, "none of its modules"),
        ("unused", "the module unused, which features_before of the network names, does not run"),
    ],
)
def test_a_place_without_features_is_refused(place: str, wrong: str) -> None:
    with pytest.raises(dfal.DfalError, match=wrong):
        dfal.features(Own(place), torch.randn(6, 4))


def test_other_features_are_the_input_of_the_last_linear_layer_that_runs(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = last_layer_inputs(trained, some_digits)
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
