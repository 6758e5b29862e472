"""Fused networks against PyTorch's: outputs, gradients of images and of parameters, and what is not
fused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn import fast_sequential as nn_fast_sequential
from dfal.nn.fast_conv_linear import conv_linear
from dfal.nn.fast_sequential import FastSequential, Layer, fast_sequential

GREY, COLOUR = (1, 17, 14), (3, 13, 16)


def ends(channels: int, h: int, w: int, classes: int = 4) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(channels * h * w, classes)]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (dfal.lenet5, (1, 28, 28)),
    "lenet5 of odd colour images": (lambda: dfal.lenet5((3, 33, 31), 7), (3, 33, 31)),
    "vgg8": (lambda: dfal.vgg8((3, 16, 16), 5), (3, 16, 16)),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 3)), (6,)),
    "linear layers in a row": (
        lambda: nn.Sequential(nn.Linear(6, 50), nn.Linear(50, 50, bias=False), nn.Linear(50, 3)),
        (6,),
    ),
    "one logit": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)),
        (1, 2, 3),
    ),
    "convolution alone": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), *ends(4, 15, 12)), GREY),
    "no bias": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), *ends(4, 7, 6)
        ),
        GREY,
    ),
    "no relu": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), *ends(4, 5, 7)), COLOUR),
    "relu after pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), *ends(4, 5, 7)),
        COLOUR,
    ),
    "no pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(), *ends(2, 9, 12)
        ),
        COLOUR,
    ),
    "even kernel": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, (4, 2)), nn.ReLU(), nn.MaxPool2d(2), *ends(4, 7, 6)),
        GREY,
    ),
    "padding": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 5, padding=(1, 2)), nn.ReLU(), nn.MaxPool2d(2), *ends(4, 5, 8)
        ),
        COLOUR,
    ),
    "stride": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), *ends(4, 6, 7)),
        COLOUR,
    ),
    "groups": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, dilation=2), nn.ReLU(), *ends(6, 9, 12)),
        COLOUR,
    ),
    "sides as lists": (lambda: nn.Sequential(nn.MaxPool2d([2, 2], [2, 2]), *ends(3, 6, 8)), COLOUR),  # type: ignore[arg-type]
    "pooling first": (
        lambda: nn.Sequential(
            nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(3, 20, 3), nn.MaxPool2d(2), *ends(20, 2, 3)
        ),
        COLOUR,
    ),
    "many channels": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 20, 3),
            nn.ReLU(),
            nn.Conv2d(20, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *ends(6, 4, 6),
        ),
        COLOUR,
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 3)),
            nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
            *ends(4, 7, 6),
        ),
        GREY,
    ),
    "1 × 1 convolution without biases": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 1, bias=False), nn.Flatten(), nn.Linear(8 * 11 * 14, 5, bias=False)
        ),
        (3, 11, 14),
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.BatchNorm2d(4, affine=False),
            *ends(4, 15, 12),
        ),
        GREY,
    ),
}


@pytest.fixture(autouse=True)
def _conv_linear_of_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn_fast_sequential, "MIN_CONV_LINEAR_IMAGES", 5)


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, and images of which one is black, so that pixels that are
    pooled are equal."""
    make, image = NETWORKS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features)
                module.running_var = torch.rand(module.num_features) + 0.5
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.uniform_(module.bias, -0.2, 0.2)
        images = torch.randn(5, *image)
    images[2] = 0
    return model.eval(), images


def fused(model: nn.Module, image: Tensor | None = None) -> FastSequential:
    layers = fast_sequential(model, image)
    assert layers is not None
    return layers


@pytest.mark.parametrize("folded", [False, True])
def test_outputs_and_the_gradients_of_images(case: tuple[nn.Module, Tensor], folded: bool) -> None:
    model, images = case
    x = images.clone().requires_grad_()
    want = model(x)
    with torch.no_grad():
        got, back = fused(model, images[:1] if folded else None).forward(images)
        classes = want.shape[1]
        cotangents = torch.eye(classes).unsqueeze(1).expand(classes, 5, classes)
        slopes = back(cotangents, params=False, inputs=True)
    torch.testing.assert_close(got, want.detach(), rtol=1e-4, atol=1e-5)
    for k in range(classes):
        (gradient,) = torch.autograd.grad(want[:, k].sum(), x, retain_graph=True)
        torch.testing.assert_close(slopes[k], gradient, rtol=1e-4, atol=1e-5)


def test_the_gradients_of_parameters(case: tuple[nn.Module, Tensor]) -> None:
    model, images = case
    weights = torch.randn(model(images).shape, generator=torch.Generator().manual_seed(1))
    want = torch.autograd.grad(
        (model(images) * weights).sum(), list(model.parameters()), allow_unused=True
    )
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return  # is fused in evaluation only, and not trained
    with torch.no_grad():
        _, back = fused(model).forward(images)
        back(weights.unsqueeze(0), params=True, inputs=False)
    for parameter, gradient in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4)
    back(weights.unsqueeze(0), params=True, inputs=False)
    torch.testing.assert_close(next(model.parameters()).grad, 2 * want[0], rtol=1e-4, atol=1e-4)


def test_frozen_parameters_learn_nothing() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    _, back = fused(nn.Sequential(layer)).forward(torch.ones(4, 3))
    back(torch.ones(1, 4, 2), params=True, inputs=False)
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 4.0))


def test_folding_saves_weights_and_sees_later_changes_only_without_it() -> None:
    model = dfal.lenet5().eval()
    image = torch.rand(1, 1, 28, 28)
    plain, folded = fused(model), fused(model, image)

    def weights(network: FastSequential) -> int:
        return sum(layer.weights or 0 for layer in network.layers)

    assert weights(folded) < weights(plain) / 7
    before = model(image)
    for parameter in model[-1].parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(plain(image), model(image))
    torch.testing.assert_close(folded(image), before, rtol=1e-4, atol=1e-5)


class Doubled(nn.Conv2d):
    """A convolution that is not one."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].register_forward_hook(lambda *_: None)
    return model


def slowed(register: str) -> nn.Module:
    """A network whose first weights' gradients a hook changes or reads."""
    model = nn.Sequential(nn.Linear(3, 2))
    getattr(model[0].weight, register)(lambda given: None)
    return model


def overridden(place: int | None) -> nn.Sequential:
    """A network with a method that was put over that of a layer, or over its own."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    module = model if place is None else model[place]
    forward = module.forward
    vars(module)["forward"] = lambda x: 2 * forward(x)
    return model


@pytest.mark.parametrize("place", [None, 0, 1, 2])
def test_a_method_that_is_put_over_another_is_called(place: int | None) -> None:
    model, x = overridden(place).eval(), torch.rand(4, 3)
    assert torch.equal(dfal.predict(model, x), model(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)),
        nn.Sequential(),
        nn.Sequential(Doubled(1, 1, 3)),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
        nn.Sequential(nn.MaxPool2d(3)),
        nn.Sequential(nn.MaxPool2d(2, stride=1)),
        nn.Sequential(nn.MaxPool2d(2, padding=1)),
        nn.Sequential(nn.MaxPool2d(2, dilation=2)),
        nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)),
        nn.Sequential(nn.MaxPool2d(2, return_indices=True)),
        nn.Sequential(nn.Flatten(0)),
        nn.Sequential(nn.BatchNorm2d(3)).train(),
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval(),
        hooked(),
        slowed("register_hook"),
        slowed("register_post_accumulate_grad_hook"),
        overridden(None),
        overridden(0),
    ],
    ids=repr,
)
def test_anything_else_is_not_fused(model: nn.Module) -> None:
    assert fast_sequential(model) is None


def test_the_lipschitz_bound_is_the_product_of_spectral_norms_and_the_last_matrix() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution, inner, last = nn.Conv2d(1, 3, 3), nn.Linear(12, 5), nn.Linear(5, 4)
    model = nn.Sequential(
        convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), inner, nn.ReLU(), last
    )
    image = torch.rand(1, 1, 6, 6)
    bound = fused(model, image).lipschitz_bound(image)
    assert bound is not None
    with torch.no_grad():
        pixels = torch.eye(36).view(36, 1, 6, 6)
        rows = (convolution(pixels) - convolution(torch.zeros(1, 1, 6, 6))).flatten(1)
        want = torch.linalg.matrix_norm(rows, 2) * torch.linalg.matrix_norm(inner.weight, 2)
    assert 1.0 <= bound.constant / float(want) <= 1.05**2 + 1e-3
    torch.testing.assert_close(bound.last_matrix, last.weight.T.detach(), rtol=1e-4, atol=1e-5)
    assert fused(model[:-1], image).lipschitz_bound(image) is None, (
        "after a ReLU there is no last matrix"
    )
    layer = Layer(fused(model).layers[0].forward)
    assert FastSequential((layer,)).lipschitz_bound(image) is None


def test_convolutions_of_few_channels_are_fused_with_what_follows() -> None:
    network = fused(dfal.lenet5().eval())
    left_out = 6  # two ReLU and two pooling layers, and the 1 × 1 convolution with flattening
    assert len(network.layers) == len(dfal.lenet5()) - left_out
    first, image = network.layers[0], torch.rand(1, 1, 28, 28)
    assert first.affine is not None
    convolved = first.affine(image)[0]
    torch.testing.assert_close(first.forward(image)[0], dfal.lenet5()[1:3](convolved))


def test_a_convolution_and_a_linear_layer_are_one_matrix_for_many_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers, images = fused(dfal.lenet5().eval()), torch.rand(5, 1, 28, 28)
    called = []

    def counted(*given: Any) -> Any:
        called.append(given)
        return conv_linear(*given)

    monkeypatch.setattr(nn_fast_sequential, "conv_linear", counted)
    layers(images[:4])
    assert not called
    layers(images)
    assert called
