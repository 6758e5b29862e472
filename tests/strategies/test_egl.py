"""Expected gradient length beside gradients that autograd finds image by image."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.strategies import egl
from dfal.strategies.egl import expected_gradient_length


def brute_force(model: nn.Module, images: Tensor) -> Tensor:
    """Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖₂, one backward pass an image and class, with the loss as a user
    would write it."""
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lengths = []
    for image in images:
        f = dfal.logits(model, image[None])
        p = f.softmax(1)[0].detach()
        total = 0.0
        for y in range(f.shape[1]):
            loss = F.cross_entropy(dfal.logits(model, image[None]), torch.tensor([y]))
            gradient = torch.autograd.grad(loss, trained, materialize_grads=True)
            total += float(p[y]) * math.sqrt(
                sum(float(g.double().square().sum()) for g in gradient)
            )
        lengths.append(total)
    return torch.tensor(lengths)


class Tied(nn.Module):
    """One layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(self.inner(x.flatten(1)).relu()).relu())
        return out


class Tokens(nn.Module):
    """A linear layer that runs at many places of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.each(x.flatten(1).view(len(x), 4, 4)).tanh().mean(1))
        return out


class Functional(nn.Module):
    """A layer that never runs: its weights are used by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.linear(x.flatten(1), self.inner.weight, self.inner.bias).relu())
        return out


class HalfFunctional(Functional):
    """A layer that runs, and whose weights a function uses as well."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x.flatten(1)).relu()
        out: Tensor = self.head(hidden) + F.linear(hidden, self.inner.weight.T)[:, :3]
        return out


class Spare(Functional):
    """A layer that the network has and does not use, as an auxiliary head is."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1)[:, :8].relu())
        return out


class Unrecorded(Functional):
    """A body that nobody learns, without autograd."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.inner(x.flatten(1)).relu()
        out: Tensor = self.head(hidden)
        return out


class Normed(Functional):
    """A weight that is made of another parameter."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.inner)


class Doubled(nn.Linear):
    """A linear layer of twice its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, 2 * self.weight, self.bias)


class Shifted(nn.Conv2d):
    """A convolution with other weights than its own."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor = super()._conv_forward(x, weight.flip(3) * 3, bias)
        return out


def put_over(kind: str) -> nn.Module:
    """A network with a hook or a method that doubles what a layer computes."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    if kind == "hook":
        model[1].register_forward_hook(lambda layer, x, out: 2 * out)
    else:
        forward = model[1].forward
        vars(model[1])["forward"] = lambda x: 2 * forward(x)
    return model


def frozen_unrecorded() -> nn.Module:
    model = Unrecorded()
    model.inner.requires_grad_(False)
    return model


def frozen_first() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    model[1].weight.requires_grad_(False)
    return model


NETWORKS = {
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(16, 4)),
    "without bias": nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False)),
    "one logit": nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 1)),
    "frozen": frozen_first(),
    "convolutions": nn.Sequential(
        *(
            nn.Conv2d(1, 3, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(3, 9, 2, dilation=1),
            nn.ReLU(),
            nn.Dropout(0.5),
        ),
        *(nn.Flatten(), nn.Linear(9, 4)),
    ),
    "wide convolution": nn.Sequential(
        nn.Conv2d(1, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 2), nn.Flatten(), nn.Linear(40, 3)
    ),
    "groups": nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)
    ),
    "padded by reflection": nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(32, 3)
    ),
    "padded to the same": nn.Sequential(
        nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(32, 3)
    ),
    "batch norm": nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)
    ),
    "in place": nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    ),
    "a layer twice": Tied(),
    "tokens": Tokens(),
    "a layer by a function": Functional(),
    "a layer and a function": HalfFunctional(),
    "a spare layer": Spare(),
    "a body without autograd": Unrecorded(),
    "a frozen body without autograd": frozen_unrecorded(),
    "weight norm": Normed(),
    "a linear layer of one's own": nn.Sequential(nn.Flatten(), Doubled(16, 8), nn.Linear(8, 3)),
    "a convolution of one's own": nn.Sequential(
        Shifted(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    ),
    "a hook": put_over("hook"),
    "a method": put_over("method"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_formula(name: str) -> None:
    model = NETWORKS[name]
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    flags = [parameter.requires_grad for parameter in model.parameters()]
    found = expected_gradient_length(model, images)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    torch.testing.assert_close(found, brute_force(model, images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["a spare layer", "a frozen body without autograd", "linear", "in place"]
)
def test_image_by_image_only_where_it_must_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egl, "_length_of_image", None)
    found = expected_gradient_length(NETWORKS[name], torch.randn(5, 1, 4, 4))
    assert (found > 0).all()


@pytest.mark.parametrize("name", ["linear", "convolutions", "batch norm", "a layer and a function"])
def test_is_the_formula_in_float64(name: str) -> None:
    model = copy.deepcopy(NETWORKS[name]).double()
    images = torch.randn(
        5, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found = expected_gradient_length(model, images)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), brute_force(model, images), rtol=1e-6, atol=1e-8)


def test_two_uses_of_one_weight_under_autocast_are_two() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):  # it casts the weight once for both
                out: Tensor = self.layer(x.flatten(1)) + F.linear(
                    x.flatten(1).square(), self.layer.weight
                )
            return out

    model, images = Twice(), torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(
        expected_gradient_length(model, images), brute_force(model, images), rtol=0.05, atol=0.05
    )
    assert torch.is_autocast_cache_enabled()


def test_a_network_that_learns_nothing_has_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    assert torch.equal(expected_gradient_length(model, torch.rand(4, 1, 4, 4)), torch.zeros(4))


def test_is_the_formula_for_lenet5(trained: nn.Sequential, some_digits: Tensor) -> None:
    found = expected_gradient_length(trained, some_digits[:6])
    torch.testing.assert_close(found, brute_force(trained, some_digits[:6]), rtol=1e-3, atol=1e-5)


def test_of_softmax_regression_has_a_closed_form() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    x = torch.randn(7, 1, 4, 4)
    p = dfal.predict(model, x).softmax(1)
    errors = (p.unsqueeze(1) - torch.eye(4)).norm(dim=2)  # ‖p − e_y‖
    want = (p * errors).sum(1) * (x.flatten(1).square().sum(1) + 1).sqrt()
    torch.testing.assert_close(expected_gradient_length(model, x), want)


@pytest.mark.parametrize("name", ["linear", "without bias", "one logit", "convolutions"])
def test_over_the_last_layer_is_the_same_with_all_others_frozen(name: str) -> None:
    model = NETWORKS[name]
    images = torch.randn(6, 1, 4, 4)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    pool = dfal.Pool.new(images, {})
    query = dfal.EGL(last_layer=True)(model, pool, 6, torch.Generator())
    others = [
        parameter
        for parameter in model.parameters()
        if all(parameter is not one for one in last.parameters())
    ]
    for parameter in others:
        parameter.requires_grad_(False)
    want = expected_gradient_length(model, images)
    for parameter in others:
        parameter.requires_grad_(True)
    torch.testing.assert_close(query.scores, want[query.indices], rtol=1e-4, atol=1e-6)


def test_over_the_last_layer_needs_one(some_digits: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU())
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        dfal.EGL(last_layer=True)(model, dfal.Pool.new(some_digits, {}), 3, torch.Generator())


def test_does_not_depend_on_the_batch(trained: nn.Sequential, some_digits: Tensor) -> None:
    whole = expected_gradient_length(trained, some_digits)
    alone = torch.cat([expected_gradient_length(trained, image) for image in some_digits.split(1)])
    torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("closed", [True, False], ids=["closed form", "image by image"])
def test_the_released_form_is_the_length_of_the_mean_gradient(closed: bool) -> None:
    """Beside autograd, with one loss a class as the released code has them, averaged."""
    model = (
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        if closed
        else Tied()
    )
    images = torch.rand(5, 1, 4, 4)
    lengths = []
    for image in images:
        losses = [
            F.cross_entropy(dfal.logits(model, image[None]), torch.tensor([y])) for y in range(3)
        ]
        gradient = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        lengths.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradient)))
    found = expected_gradient_length(model.eval(), images, mean=True)
    torch.testing.assert_close(found, torch.tensor(lengths), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, expected_gradient_length(model, images))
    with pytest.raises(dfal.DfalError, match="two different methods"):
        dfal.EGL(last_layer=True, mean_gradient=True)
