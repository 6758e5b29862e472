"""For a linear layer, DeepFool and the closed form query the same images with the same twins."""

import dataclasses
from typing import Any

import pytest
import torch

import dfal
from dfal.nn.networks import is_linear, linear
from dfal.strategies import STRATEGIES, named
from dfal.strategies.closed_form import in_closed_form
from strategy_cases import normal, rng


@pytest.mark.parametrize(
    "strategy",
    [
        named("dfal"),
        named("dfal-no-twins"),
        named("dfal-batch"),
        named("margin+twins"),
        dfal.DFAL(attack=dfal.DeepFool(p=torch.inf, overshoot=0.1), candidates=None),
        dfal.DFAL(attack=dfal.DeepFool(p=1)),
    ],
    ids=repr,
)
def test_queries_what_deepfool_queries(strategy: Any) -> None:
    torch.manual_seed(0)
    model = linear((20,), 4).eval()
    pool = dfal.Pool.new(normal(80, 20), {0: 0, 1: 1})
    closed = in_closed_form(strategy)
    assert "DeepFool" not in repr(closed)
    by_steps, exact = (s(model, pool, 7, rng(3)) for s in (strategy, closed))
    assert torch.equal(by_steps.indices, exact.indices)
    assert torch.allclose(by_steps.scores, exact.scores, rtol=1e-3)
    if by_steps.twins is None or exact.twins is None:
        assert by_steps.twins is exact.twins
    else:
        assert torch.allclose(by_steps.twins, exact.twins, atol=1e-3)


def test_what_has_no_deepfool_or_needs_its_settings_is_unchanged() -> None:
    for strategy in (
        named("dfal-released"),  # without overshoot
        dfal.DFAL(attack=dfal.DeepFool(clip=(0, 1))),
        dfal.DFAL(attack=dfal.DeepFool(classes=2)),
        dfal.WithTwins(dfal.Margin(), attack=dfal.FGSM()),
        *(value for name, value in STRATEGIES.items() if "dfal" not in name),
    ):
        assert in_closed_form(strategy) == strategy


@dataclasses.dataclass(frozen=True)
class Mine:
    attack: dfal.DeepFool = dfal.DeepFool()

    def __call__(self, model: Any, pool: Any, k: Any, rng: Any) -> Any: ...


def test_a_strategy_of_the_users_own_is_unchanged() -> None:
    assert in_closed_form(Mine()) == Mine()
    inner = dfal.WithTwins(Mine())
    assert in_closed_form(inner) == dfal.WithTwins(Mine(), attack=dfal.LinearHead())


def test_what_is_linear() -> None:
    assert is_linear(torch.nn.Linear(3, 2))
    assert is_linear(linear((3,), 2))
    assert not is_linear(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)))
    doubled = torch.nn.Linear(3, 2)
    doubled.register_forward_hook(lambda layer, x, out: 2 * out)
    assert not is_linear(doubled)
    assert not is_linear(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))
    assert not is_linear(dfal.lenet5())
