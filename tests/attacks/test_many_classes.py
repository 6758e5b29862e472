"""The nearest of many classes, beside the gradients of all of them."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.attacks import deepfool, many_classes
from dfal.attacks.deepfool import KNearestLimit
from dfal.attacks.deepfool_state import gaps_of
from dfal.attacks.gradients import AutogradGradients, gradients_of
from dfal.attacks.many_classes import nearest_of_many
from plain_attacks import Counting, affine

CLASSES = 100


class Small(nn.Module):
    """A convolution, a way past another one, attention, and many classes."""

    def __init__(self, layer: nn.Module, classes: int = CLASSES):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, 2)
        self.norm = nn.BatchNorm2d(8)
        self.layer = layer
        self.attention = nn.TransformerEncoderLayer(
            8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.last = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.first(x)), inplace=True)
        y = y + self.layer(y.contiguous(memory_format=torch.channels_last))
        tokens = F.max_pool2d(y, 2).flatten(2).transpose(1, 2)
        f: Tensor = self.last(self.attention(tokens).mean(1))
        return f


class Slope(torch.autograd.Function):
    """The identity, with gradients but without derivatives in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        return gradient[0]


class Steep(Slope):
    """The same with derivatives that are not those of its gradients."""

    @staticmethod
    def jvp(ctx: Any, *tangent: Tensor) -> Tensor:
        return 3 * tangent[0]


class Applied(nn.Module):
    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(x)
        return out


class Unbatched(nn.Module):
    """Copies in a layout that `torch.vmap` does not take, but forward mode does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone(memory_format=torch.channels_last)


def small(layer: nn.Module | None = None, classes: int = CLASSES) -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small(layer or nn.Conv2d(8, 8, 3, padding=1), classes)
        model.last.weight.data *= torch.linspace(0.2, 3, classes).unsqueeze(1)
        assert isinstance(model.norm.running_mean, Tensor)
        model.norm.running_mean.normal_()
    return model.eval()


def random_images(n: int, *shape: int) -> Tensor:
    return torch.randn(n, *(shape or (1, 12, 12)), generator=torch.Generator().manual_seed(0))


def every_gradient(monkeypatch: pytest.MonkeyPatch, attack: Callable[[], Any]) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(deepfool, "MIN_MANY_CLASSES", CLASSES + 1)
        return attack()


@pytest.mark.parametrize("p", [2, 3, math.inf])
@pytest.mark.parametrize("kind", ["by autograd", "fused"])
def test_the_same_distances_as_with_every_gradient(
    kind: str, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, CLASSES)]
    model: nn.Module = small() if kind == "by autograd" else nn.Sequential(*layers)
    images, attack = random_images(12), dfal.DeepFool(p=p, chunk=8)
    taken = counted(monkeypatch)
    found = attack(model, images)
    assert taken, "it was not used"
    want = every_gradient(monkeypatch, lambda: attack(model, images))
    assert found.fooled.all()
    torch.testing.assert_close(found.distance, want.distance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.images, want.images, rtol=1e-4, atol=1e-4)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images times directions of each call for derivatives, from now on."""
    taken: list[int] = []

    def directional_derivatives(self: Any, x: Tensor, directions: Tensor) -> Any:
        found = original(self, x, directions)
        if found is not None:
            taken.append(found.shape[0] * found.shape[1])
        return found

    original = AutogradGradients.directional_derivatives
    monkeypatch.setattr(AutogradGradients, "directional_derivatives", directional_derivatives)
    return taken


def test_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where classes are about as near as each other, as no training has told them apart."""
    model, images, gradients = small(classes=400), random_images(8), []
    original = AutogradGradients.combined_gradient

    def combined_gradient(self: Any, x: Tensor, order: Tensor) -> Any:
        f, combine = original(self, x, order)

        def counting(coefficients: Tensor) -> Tensor:
            gradients.append(len(coefficients))
            return combine(coefficients)

        return f, counting

    monkeypatch.setattr(AutogradGradients, "combined_gradient", combined_gradient)
    directions = counted(monkeypatch)
    attack = dfal.DeepFool(max_steps=1)
    attack(model, images)
    assert len(images) * 2 < sum(gradients) + sum(directions) < len(images) * 400 / 3


def nearest(model: nn.Module, x: Tensor, p: float = 2, tried: int = 1) -> tuple[Any, Any]:
    """The nearest boundaries by derivatives, and by the gradients of all classes."""
    network = gradients_of(model, x[:1])
    order = network.logits(x).argsort(dim=1, descending=True, stable=True)
    places = torch.full((len(x),), tried)
    found = nearest_of_many(network, x, order, places, p)
    return found, dfal.DeepFool(p=p)._boundary(network, x, order)[1]


@pytest.mark.parametrize("tried", [1, 7, CLASSES - 1])
def test_the_nearest_is_the_least_likely_class(tried: int) -> None:
    layer, x = affine(30, CLASSES, seed=0), 1e-3 * random_images(20, 30)
    with torch.no_grad():
        layer.weight *= 0.01
        layer.weight[3] *= 1e6
        layer.bias[3] = -100
    for model in (layer, Counting(layer)):
        found, want = nearest(model, x, tried=tried)
        assert (want.candidate_class == CLASSES - 1).all()
        assert torch.equal(found.candidate_class, want.candidate_class)
        torch.testing.assert_close(found.distance, want.distance)
        torch.testing.assert_close(found.w, want.w)


@pytest.mark.parametrize("tried", [1, 3, 50])
def test_of_classes_as_near_the_likelier_is_taken(tried: int) -> None:
    layer = affine(30, CLASSES, seed=0)
    with torch.no_grad():
        layer.weight[::2], layer.bias[::2] = layer.weight[1::2], layer.bias[1::2]
    found, want = nearest(Counting(layer), random_images(20, 30), tried=tried)
    assert torch.equal(found.candidate_class, want.candidate_class)
    torch.testing.assert_close(found.distance, want.distance)


def test_classes_without_gradient_or_with_nan_are_as_for_every_gradient() -> None:
    class Roots(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = affine(30, CLASSES, seed=0)

        def forward(self, x: Tensor) -> Tensor:
            f = self.layer(x)
            root = (0 * x[:, :1]).clamp(min=0).sqrt()  # NaN is its gradient
            return torch.cat([f[:, :4], root - 50, f[:, 5:]], 1)

    found, want = nearest(Roots(), random_images(20, 30))
    assert found is None or torch.equal(found.candidate_class, want.candidate_class)
    layer = affine(30, CLASSES, seed=0)
    torch.nn.init.zeros_(layer.weight)
    found, want = nearest(Counting(layer), random_images(20, 30))
    assert want.distance.isinf().all()
    assert torch.equal(found.distance, want.distance)
    assert torch.equal(found.candidate_class, want.candidate_class)
    assert not dfal.DeepFool()(layer, random_images(2, 30)).fooled.any()


@pytest.mark.parametrize(
    ("layer", "works"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), True),
        (Unbatched(), True),
        (Applied(Slope.apply), False),
        (Applied(Steep.apply), False),
    ],
)
def test_a_layer_without_true_derivatives_has_every_gradient_computed(
    layer: nn.Module, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images, attack = small(layer), random_images(4), dfal.DeepFool(max_steps=2)
    found, want = nearest(model, images)
    assert (found is not None) == works
    if works:
        assert torch.equal(found.candidate_class, want.candidate_class)
    plain = every_gradient(monkeypatch, lambda: attack(model, images))
    torch.testing.assert_close(attack(model, images).images, plain.images, rtol=1e-4, atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("ways", [0, 1])
def test_derivatives_along_directions_are_those_of_the_gradients(ways: int) -> None:
    model, x = small().requires_grad_(False), random_images(5)
    network = AutogradGradients(model)
    del network._derivatives[:ways]
    directions = random_images(3, 1, 12, 12).unsqueeze(0)
    found = network.directional_derivatives(x, directions)
    assert found is not None
    assert len(network._derivatives) == 2 - ways, "it failed and another was used"
    x = x.requires_grad_()
    f = model(x)
    for k in (0, 7, CLASSES - 1):
        w = torch.autograd.grad(f[:, k].sum(), x, retain_graph=True)[0].flatten(1)
        torch.testing.assert_close(found[..., k], w @ directions[0].flatten(1).T)


@pytest.mark.parametrize("p", [2, 3, math.inf])
def test_bounds_are_less_than_distances_and_not_by_much(p: float) -> None:
    model, x = small(), random_images(16)
    network = gradients_of(model, x[:1])
    order = network.logits(x).argsort(1, descending=True)
    f, w = network.logit_gradients(x, order)
    gaps = gaps_of(network, f, order)
    q = 1.0 if p == math.inf else p / (p - 1)
    gradients = torch.cat([each for _, each in w]).transpose(0, 1)
    distances = gaps / torch.linalg.vector_norm(gradients.flatten(2), ord=q, dim=2)
    some = torch.stack([gradients[:, 0], gradients.sum(1)], 1)
    tried = torch.ones(len(x), dtype=torch.int64)
    linearised = many_classes._Linearised(network, x, order, gaps, p)
    bounds = many_classes._bounds(linearised, tried, some, distances[:, 0])
    assert bounds is not None
    lowest, likely = bounds
    assert (lowest <= distances).all()
    assert ((distances / lowest).median() < 20) and (lowest > 0).all()
    if p == 2:
        assert float((likely / distances).log().abs().mean()) < 0.3


@pytest.mark.parametrize("probability", [0.5, 0.01])
def test_the_quantile_of_squared_lengths(probability: float) -> None:
    squares = random_images(20_000, 8).square().sum(1)
    t = many_classes._chi_squared_quantile(8, probability)
    assert float((squares < t).float().mean()) == pytest.approx(probability, rel=0.2)


def test_a_limit_finds_the_nearest_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, attack = small(), random_images(10), dfal.DeepFool()
    want = every_gradient(monkeypatch, lambda: attack(model, images)).distance.sort()
    for exact in (True, False):
        found = attack.nearest(model, images, KNearestLimit(3, exact=exact)).distance.sort()
        assert torch.equal(found.indices[:3], want.indices[:3])
        torch.testing.assert_close(found.values[:3], want.values[:3], rtol=1e-4, atol=1e-6)


def test_pytorchs_warnings_of_its_own_derivatives_are_not_shown() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(
        nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)
    )
    model = Small(layer).eval()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        found = dfal.DeepFool()(model, torch.rand(3, 1, 12, 12))
    assert found.fooled.all()
    assert [str(warning.message) for warning in shown] == []
