"""A training of the user's own: what it is given, and what is refused of what it returns."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.custom_fit import load_fit

HERE = "test_custom_fit:"
DATA = dfal.LabelledData(
    torch.rand(12, 5, generator=torch.Generator().manual_seed(0)),
    torch.arange(12) % 3,
    torch.arange(12),
)
Make = Callable[[], nn.Module]


def network() -> nn.Module:
    return nn.Linear(5, 3)


def few_steps(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    model = make()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(data.images), data.labels).backward()
        optimiser.step()
    return model.train()


def all_random(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.bias[:] = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])
    return model


def failing(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    raise KeyError("learning_rate")


def asks_too_much(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    return dfal.fit(make, data, dfal.Training(epochs=0), seed)


def nothing(make: Make, data: dfal.LabelledData, seed: int) -> None:
    few_steps(make, data, seed)


class Trainer:
    """What other libraries train: it holds the network."""

    def __init__(self, module: nn.Module):
        self.module_ = module

    def fit(self) -> None: ...


def the_trainer(make: Make, data: dfal.LabelledData, seed: int) -> Trainer:
    return Trainer(make())


def two_classes(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    return nn.Linear(5, 2)


def probabilities(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    return nn.Sequential(make(), nn.Softmax(1))


def diverged(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    model = make()
    with torch.no_grad():
        next(model.parameters())[0] = torch.nan
    return model


class HidesNaN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(5, 3), nn.Parameter(torch.tensor([torch.inf]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def hidden_infinity(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    return HidesNaN()


def other_input(make: Make, data: dfal.LabelledData, seed: int) -> nn.Module:
    return nn.Linear(6, 3)


def two_arguments(make: Make, data: dfal.LabelledData) -> nn.Module:
    return make()


A_CLASS, NUMBER = Trainer, 3


def test_trains_the_network_that_make_returns() -> None:
    model = load_fit(HERE + "few_steps")(network, DATA, 0)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        loss, before = (
            nn.functional.cross_entropy(m(DATA.images), DATA.labels)
            for m in (model, load_fit(HERE + "few_steps")(network, DATA, 0))
        )
    assert loss == before, "the seed decides"


def test_the_seed_alone_decides_what_is_random_and_the_callers_generators_stay() -> None:
    fit = load_fit(HERE + "all_random")

    def bias(seed: int) -> list[float]:
        bias = dict(fit(network, DATA, seed).named_parameters())["bias"]
        return [float(value) for value in bias.detach()]

    states = repr(np.random.get_state()), random.getstate(), torch.get_rng_state()
    first = bias(7)
    assert (repr(np.random.get_state()), random.getstate()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    assert bias(7) == first
    assert not set(bias(8)) & set(first)


def test_the_callers_modes_are_off_meanwhile() -> None:
    with torch.inference_mode(), torch.autocast("cpu"):
        model = load_fit(HERE + "few_steps")(network, DATA, 0)
    assert not any(parameter.is_inference() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "failing",
            r"the training .*failing fails \(KeyError: 'learning_rate', in test_custom_fit",
        ),
        ("asks_too_much", "epochs must be 1 or more"),
        ("nothing", "what the training .*nothing returns must be a torch.nn.Module .* NoneType"),
        ("the_trainer", "is Trainer: give its .module_"),
        ("two_classes", "returns a network of 2 logits, but 3 are needed: train what make"),
        ("probabilities", "cannot be used .*returns probabilities"),
        ("diverged", "cannot be used .*NaN or infinite logits"),
        ("hidden_infinity", "NaN or infinite weights"),
        ("other_input", "cannot be used"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence) as raised:
        load_fit(HERE + name)(network, DATA, 0)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("adam", "the training 'adam' has no colon: give package.module:function"),
        ("nowhere:fit", "the training 'nowhere:fit' cannot be found"),
        (HERE + "missing", "there is no 'missing' in"),
        (HERE + "two_arguments", r"takes .* but it is called with \(make, data, seed\)"),
        (HERE + "A_CLASS", "must be a function"),
        (HERE + "NUMBER", "must be a function"),
    ],
)
def test_a_name_that_is_no_training_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        load_fit(name)
