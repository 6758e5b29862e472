"""Layers against PyTorch's, and the steps of a fused convolution against plain versions."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.nn import fast_layers
from dfal.nn.fast_sequential import FastSequential, fast_sequential


def network(model: nn.Module) -> FastSequential:
    layers = fast_sequential(model)
    assert layers is not None
    return layers


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def plain_windows(x: Tensor, height: int, width: int, s: int) -> Tensor:
    """Windows (c, height, width, p, q, n) of x (c, h, w, n), s pixels apart, one at a time."""
    rows, columns = (x.shape[1] - height) // s + 1, (x.shape[2] - width) // s + 1
    windows = [
        [x[:, s * p : s * p + height, s * q : s * q + width] for q in range(columns)]
        for p in range(rows)
    ]
    return torch.stack([torch.stack(row, 3) for row in windows], 3)


SHAPES = [(1, 3, 3), (2, 4, 4), (2, 6, 4)]
"""s, and a window's height and width in pixels."""


@pytest.mark.parametrize(("s", "height", "width"), SHAPES)
def test_im2col_cuts_windows_out(s: int, height: int, width: int) -> None:
    x = normal(2, height + 3 * s, width + 2 * s, 5)
    columns = fast_layers._im2col(x, (height, width), (4, 3), s)
    assert torch.equal(columns, plain_windows(x, height, width, s).reshape(columns.shape))


@pytest.mark.parametrize(("s", "height", "width"), SHAPES)
def test_col2im_adds_windows_up_where_they_overlap(s: int, height: int, width: int) -> None:
    windows = normal(2, height, width, 3, 4, 3, 5)
    want = torch.zeros(2, 3, height + 3 * s, width + 2 * s, 5)
    for p in range(4):
        for q in range(3):
            window = windows[:, :, :, :, p, q].permute(0, 3, 1, 2, 4)
            want[:, :, s * p : s * p + height, s * q : s * q + width] += window
    torch.testing.assert_close(fast_layers._col2im(windows, s), want)


def test_a_3_by_3_kernel_has_four_places_in_its_window() -> None:
    kernel = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    shifts = fast_layers._shifts(3, 3, 2, torch.float32)
    shifted = fast_layers._shifted_kernels(kernel, shifts, 2).view(4, 4, 4)
    assert shifted[1].tolist() == [[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 8, 9], [0, 0, 0, 0]]
    for place in range(4):
        a, b = divmod(place, 2)
        want = torch.zeros(4, 4)
        want[a : a + 3, b : b + 3] = kernel[0, 0]
        assert torch.equal(shifted[place], want)


@pytest.mark.parametrize(("kernel", "s"), [((3, 3), 2), ((5, 4), 2), ((3, 2), 1)])
def test_gradients_of_shifted_kernels_add_up_to_that_of_the_kernel(
    kernel: tuple[int, int], s: int
) -> None:
    weight = normal(4, 2, *kernel).requires_grad_()
    shifts = fast_layers._shifts(*kernel, s, weight.dtype)
    shifted = fast_layers._shifted_kernels(weight, shifts, s)
    gradient = normal(*shifted.shape)
    (want,) = torch.autograd.grad(shifted, weight, gradient)
    folded = fast_layers._fold_kernel_grad(gradient, shifts, 4).view_as(weight)
    torch.testing.assert_close(folded, want)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("numbers", [1, 2**19])
def test_a_fused_convolution_is_pytorchs(
    relu: bool, pool: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For gradients one at a time, too, as they are when more do not fit into the cache."""
    monkeypatch.setattr(fast_layers, "CACHED_GRADIENT_NUMBERS", numbers)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(2, 3, (3, 2), padding=(1, 0))
    images = normal(4, 2, 7, 8).requires_grad_()
    want = layer(images)
    want = want.relu() if relu else want
    want = F.max_pool2d(want, 2) if pool else want
    gradient = normal(3, *want.shape)
    of_images = [torch.autograd.grad(want, images, each, retain_graph=True)[0] for each in gradient]
    with torch.no_grad():
        out, backward = fast_layers.conv_relu_pool(layer, relu, pool, images)
        of_x = backward(gradient, params=False, inputs=True)
    torch.testing.assert_close(out, want.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_x, torch.stack(of_images), rtol=1e-4, atol=1e-5)


def test_equal_pixels_send_the_gradient_to_the_first() -> None:
    for model in (
        nn.Sequential(nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
    ):
        for parameter in model.parameters():
            nn.init.ones_(parameter)
        _, backward = network(model).forward(torch.ones(1, 1, 4, 4))
        gradient = backward(torch.ones(1, 1, 1, 2, 2), params=False, inputs=True)
        assert gradient[0, 0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


@pytest.mark.parametrize("p", [0.25, 0.5, 0.001])
def test_dropout_keeps_its_share_and_the_mean(p: float) -> None:
    model = nn.Sequential(nn.Dropout(p)).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out, backward = network(model).forward(torch.ones(400, 501))
        other, _ = network(model).forward(torch.ones(400, 501))
    kept = (out > 0).float().mean()
    assert abs(float(kept) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / out.numel())
    torch.testing.assert_close(
        out[out > 0], torch.full((int((out > 0).sum()),), 1 / (1 - p)), rtol=1e-4, atol=0
    )
    assert not torch.equal(out, other)
    assert torch.equal(backward(torch.ones(1, 400, 501), params=False, inputs=True)[0], out), (
        "the gradient has the same mask"
    )
    assert (
        abs(float(((out[:, 1:] > 0) == (out[:, :-1] > 0)).float().mean()) - (p**2 + (1 - p) ** 2))
        < 0.01
    ), "neighbours are independent"


def test_dropout_at_its_ends_and_in_evaluation() -> None:
    x = torch.rand(3, 5)
    assert torch.equal(network(nn.Sequential(nn.Dropout(0.0)).train())(x), x)
    assert torch.equal(network(nn.Sequential(nn.Dropout(1.0)).train())(x), torch.zeros(3, 5))
    model = nn.Sequential(nn.Dropout(0.5)).eval()
    layers = network(model)
    assert torch.equal(layers(x), x)
    assert not torch.equal(layers(x), network(model.train())(x)), "the mode is the module's"
