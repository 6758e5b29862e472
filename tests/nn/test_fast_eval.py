"""Batch norm folded and attention split: the same numbers, and the network as it was afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.evaluation import frozen_eval
from dfal.nn.fast_eval import fast_eval


class Network(nn.Module):
    """A residual block whose two batch norms can be folded, and what it does beside."""

    def __init__(self, change: Callable[["Network", Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.last = nn.Linear(4 * 8 * 8, 3)
        self.change = change or first
        for norm in (self.norm1, self.norm2):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias)
            norm.running_mean = torch.randn(4)
            norm.running_var = torch.rand(4) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.change(self, x).relu()
        y = (self.norm2(self.conv2(y)) + y).relu()
        out: Tensor = self.last(y.flatten(1))
        return out


def first(network: Network, x: Tensor) -> Tensor:
    out: Tensor = network.norm1(network.conv1(x))
    return out


def viewed(network: Network, x: Tensor) -> Tensor:
    return first(network, x).view(len(x), 4, 64).view(len(x), 4, 8, 8)


def used_twice(network: Network, x: Tensor) -> Tensor:
    y: Tensor = network.conv1(x)
    normed: Tensor = network.norm1(y)
    return y + normed


def called_twice(network: Network, x: Tensor) -> Tensor:
    return first(network, x) + first(network, 2 * x)


def random(network: Network, x: Tensor) -> Tensor:
    return first(network, x) + torch.rand(())


IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("change", "folded"),
    [(None, 2), (used_twice, 1), (called_twice, 1), (viewed, None), (random, None)],
)
def test_outputs_and_gradients_stay_and_the_network_is_as_it_was(
    change: Callable[[Network, Tensor], Tensor] | None, folded: int | None
) -> None:
    model = Network(change)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = model.conv2.weight.stride()
    with frozen_eval(model) as network:
        want = outputs(network)
        with fast_eval(network, IMAGES[:1]):
            found = outputs(network)
            bypassed = sum("forward" in norm.__dict__ for norm in (model.norm1, model.norm2))
            assert bypassed == folded or folded is None
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert model.conv1.bias is None
    assert model.conv2.weight.stride() == strides
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.requires_grad for parameter in model.parameters())


def outputs(model: nn.Module) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x = IMAGES.clone().requires_grad_()
    f = model(x)
    return f.detach(), torch.autograd.grad(f[:, 1].sum(), x)[0]


def test_a_network_is_as_it_was_after_an_error() -> None:
    model = Network()
    with frozen_eval(model) as network, pytest.raises(KeyError), fast_eval(network, IMAGES[:1]):
        raise KeyError
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert model.conv1.bias is None


def test_deepfool_finds_the_same_distances_with_batch_norm_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Network().double()
    found = dfal.DeepFool()(model, IMAGES.double())
    monkeypatch.setattr("dfal.attacks.gradients.fast_eval", lambda *_: frozen_eval(model))
    plain = dfal.DeepFool()(model, IMAGES.double())
    assert not torch.equal(found.images, plain.images), "they are two ways"
    torch.testing.assert_close(found.distance, plain.distance, rtol=1e-6, atol=1e-9)


class Attending(nn.Module):
    """Two layers of attention on the rows of an image, and a last layer."""

    def __init__(self, attend: Callable[[nn.MultiheadAttention, Tensor], Tensor], **options: Any):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True, **options)
        nn.init.uniform_(self.attention.in_proj_bias, -1, 1)
        self.last = nn.Linear(64, 3)
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.attention, self.layer(x.squeeze(1)))
        out: Tensor = self.last(y.flatten(1))
        return out


def plain(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    out: Tensor = attention(x, x, x, need_weights=False)[0]
    return out


def weighted(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    out, weights = attention(x, x, x)
    y: Tensor = out + weights.sum(1, keepdim=True).mT
    return y


def masked(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    mask = torch.ones(8, 8, dtype=torch.bool).triu(1)
    out: Tensor = attention(x, x, x, need_weights=False, attn_mask=mask)[0]
    return out


def padded(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    mask = torch.arange(8).expand(len(x), 8) > 5
    out: Tensor = attention(x, x, x, mask, False)[0]
    return out


def of_another(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    out: Tensor = attention(x, x.flip(1), x, need_weights=False)[0]
    return out


@pytest.mark.parametrize(
    ("attend", "options"),
    [
        (plain, {}),
        (plain, {"bias": True, "add_bias_kv": True}),
        (plain, {"add_zero_attn": True}),
        (plain, {"dropout": 0.5}),
        (weighted, {}),
        (masked, {}),
        (padded, {}),
        (of_another, {}),
    ],
)
def test_attention_stays_the_same(
    attend: Callable[[nn.MultiheadAttention, Tensor], Tensor], options: dict[str, Any]
) -> None:
    model = Attending(attend, **options)
    with frozen_eval(model) as network:
        want = outputs(network)
        with fast_eval(network, IMAGES[:1]):
            found = outputs(network)
            is_split = ["forward" in m.__dict__ for m in (model.layer.self_attn, model.attention)]
    assert is_split == [True, not options.keys() & {"add_bias_kv", "add_zero_attn"}]
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_method_that_the_user_has_put_over_a_module_is_called_and_stays() -> None:
    model, network = Attending(plain), Network()
    vars(network.norm1)["forward"] = lambda x: 2 * x
    attend = model.attention.forward
    vars(model.attention)["forward"] = lambda x, *_, **given: (3 * attend(x, x, x)[0], None)
    for each, module in ((model, model.attention), (network, network.norm1)):
        own = module.__dict__["forward"]
        with frozen_eval(each) as frozen:
            want = outputs(frozen)
            with fast_eval(frozen, IMAGES[:1]):
                found = outputs(frozen)
                assert module.__dict__["forward"] is own
        assert module.__dict__["forward"] is own
        for a, b in zip(found, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_queries_keys_and_values_have_their_gradients_put_together_by_one_copy() -> None:
    model = Attending(plain)
    with frozen_eval(model) as network:
        assert {"SelectBackward0", "UnbindBackward0"} & operations(network) == {"SelectBackward0"}
        with fast_eval(network, IMAGES[:1]):
            found = operations(network)
            assert {"SelectBackward0", "UnbindBackward0"} & found == {"UnbindBackward0"}


def operations(model: nn.Module) -> set[str]:
    """Return the names of the operations of a gradient."""
    waiting, names = [model(IMAGES.clone().requires_grad_()).grad_fn], set()
    while waiting:
        node = waiting.pop()
        names.add(node.name())
        waiting += [before for before, _ in node.next_functions if before is not None]
    return names
