"""The compiled kernels beside PyTorch's autograd in float64, and what is done without them."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.nn import kernels
from dfal.nn.fast_sequential import fast_sequential

needs_kernels = pytest.mark.skipif(
    kernels.library() is None, reason="dfal was installed without a C compiler"
)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_installing_dfal_compiles_them() -> None:
    assert kernels.LIBRARY.exists()


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=dfal.generator(0, sum(shape), "test"))


@needs_kernels
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("c", "o", "k", "size", "padding", "n", "bias"),
    [
        (1, 6, 5, (28, 28), (0, 0), 32, True),  # LeNet5
        (6, 16, 5, (12, 12), (0, 0), 32, True),
        (3, 5, 3, (9, 12), (1, 0), 7, True),  # odd sides, and no whole vector
        (2, 1, 7, (10, 9), (3, 2), 17, False),
        (4, 3, 3, (4, 5), (0, 1), 1, True),
    ],
)
def test_they_compute_what_autograd_does(
    c: int,
    o: int,
    k: int,
    size: tuple[int, int],
    padding: tuple[int, int],
    n: int,
    bias: bool,
    relu: bool,
) -> None:
    layer = nn.Conv2d(c, o, k, padding=padding, bias=bias)
    for parameter in layer.parameters():
        parameter.data = normal(*parameter.shape)
    images = normal(n, c, *size)
    exact = nn.Conv2d(c, o, k, padding=padding, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    x = images.double().requires_grad_()
    want = exact(x).relu() if relu else exact(x)
    want = F.max_pool2d(want, 2)
    gradients = normal(3, *want.shape)
    of_images = [
        torch.autograd.grad(want, x, each.double(), retain_graph=True)[0] for each in gradients
    ]
    want.backward(gradients[0].double())
    assert kernels.suit(layer, images)
    with torch.no_grad():
        out, backward = kernels.conv_relu_pool(layer, relu, images)
        of_x = backward(gradients, params=False, inputs=True)
        for _ in range(2):
            backward(gradients[:1], params=True, inputs=False)
    torch.testing.assert_close(out, want.detach().float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(of_x, torch.stack(of_images).float(), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, 2 * theirs.grad.float(), rtol=1e-4, atol=1e-3)


@needs_kernels
def test_of_equal_pixels_the_first_has_the_gradient() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.ones_(layer.bias)
    layer.weight.data[0, 0, 1, 1] = 1
    _, backward = kernels.conv_relu_pool(layer, True, torch.ones(1, 1, 4, 4))
    of_x = backward(torch.ones(1, 1, 1, 2, 2), params=False, inputs=True)
    assert of_x[0, 0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


@needs_kernels
@pytest.mark.parametrize("relu", [False, True])
def test_what_is_no_number_stays_so(relu: bool) -> None:
    layer, images = nn.Conv2d(1, 2, 3), normal(2, 1, 10, 10)
    images[1, 0, 5, 6] = float("nan")
    want = layer(images).relu() if relu else layer(images)
    out, _ = kernels.conv_relu_pool(layer, relu, images)
    assert torch.equal(out.isnan(), F.max_pool2d(want, 2).isnan())
    assert out.isnan().sum() == 8


@needs_kernels
def test_what_they_are_not_made_for_is_left_to_pytorch() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert kernels.suit(nn.Conv2d(1, 2, 3), images)
    assert not kernels.suit(nn.Conv2d(1, 2, 4), images)
    assert not kernels.suit(nn.Conv2d(1, 2, (3, 5)), images)
    assert not kernels.suit(nn.Conv2d(1, 2, 3).double(), images.double())
    assert not kernels.suit(nn.Conv2d(1, 2, 3), images.to("meta"))


@needs_kernels
def test_images_that_do_not_fit_never_reach_them() -> None:
    images = torch.rand(2, 1, 8, 8)
    for wrong in (torch.rand(2, 3, 8, 8), images[0]):
        assert not kernels.suit(nn.Conv2d(1, 2, 3), wrong)
    for wrong in (torch.rand(2, 3, 28, 28), torch.rand(2, 1, 4, 4)):
        with pytest.raises(dfal.DfalError):
            dfal.predict(dfal.lenet5(), wrong)


@pytest.fixture
def _anew() -> Iterator[None]:
    kernels.library.cache_clear()
    yield
    kernels.library.cache_clear()


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize("why", ["switched off", "no file", "no AVX"])
def test_without_them_networks_are_the_same(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = dfal.lenet5().eval(), torch.rand(9, 1, 28, 28)
    if why == "switched off":
        monkeypatch.setenv("DFAL_KERNELS", "0")
    elif why == "no file":
        monkeypatch.setattr(kernels, "LIBRARY", kernels.LIBRARY / "gone")
    else:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert kernels.library() is None
    layers = fast_sequential(model)
    assert layers is not None
    torch.testing.assert_close(layers(images), model(images).detach(), rtol=1e-4, atol=1e-5)
