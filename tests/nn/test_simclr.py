"""SimCLR: what is trained, by which loss, and that it is a function of the seed."""

import math

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.nn import simclr
from dfal.nn.augmentation import SHAPES
from dfal.nn.simclr import contrast, pretrain, started_from
from dfal.seeding import fork_rng, generator
from strategy_cases import rng

BODY = {f"{layer}.{kind}" for layer in (0, 4, 8, 10) for kind in ("weight", "bias")}
"""The weights of LeNet5 before its 84 features."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simclr, "BATCH", 48)


def seeded() -> nn.Sequential:
    with fork_rng(3):
        return dfal.lenet5()


def test_the_loss_is_that_of_finding_the_partner() -> None:
    rows = torch.randn(8, 5, generator=rng(), dtype=torch.float64)
    unit = rows / rows.norm(dim=1, keepdim=True)
    expected = 0.0
    for row in range(8):
        weights = [
            math.exp(float(unit[row] @ unit[other]) / simclr.TEMPERATURE) for other in range(8)
        ]
        others = sum(weights) - weights[row]
        expected -= math.log(weights[(row + 4) % 8] / others) / 8
    assert float(contrast(rows)) == pytest.approx(expected, rel=1e-6)


def test_looks_at_one_image_become_alike(digits: Dataset) -> None:
    weights = pretrain(dfal.lenet5, digits.images, 0, augment="shapes", steps=30)
    assert weights.keys() == BODY
    batch = digits.images.take(torch.arange(0, 4000, 67)[:48])
    looks = SHAPES.strong(torch.cat([batch, batch]), generator(1, 0, "looks"))

    def loss(network: nn.Module) -> float:
        rows = dfal.features(network, looks)
        return float(contrast(rows - rows.mean(0)))

    assert loss(started_from(seeded, weights)()) < 0.9 * loss(seeded())
    head = started_from(seeded, weights)().state_dict()["12.weight"]
    assert torch.equal(head, seeded().state_dict()["12.weight"])


def test_the_weights_are_a_function_of_the_seed(digits: Dataset) -> None:
    def after(seed: int) -> dict[str, Tensor]:
        torch.rand(3)  # what is drawn elsewhere does not matter
        return pretrain(dfal.lenet5, digits.images, seed, augment="shapes", steps=2)

    state = torch.get_rng_state()
    one, same, other = after(0), after(0), after(1)
    torch.set_rng_state(state)
    assert all(torch.equal(one[name], same[name]) for name in BODY)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_network_without_a_name_for_its_features_is_trained_to_its_last_layer() -> None:
    images = Images(torch.rand(20, 1, 8, 8, generator=rng()).numpy())

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.BatchNorm1d(7), nn.Linear(7, 2))

    weights = pretrain(make, images, 0, augment="shapes", steps=2)
    assert "1.weight" in weights
    assert "2.running_mean" in weights
    assert not any(name.startswith("3.") for name in weights)


def test_what_cannot_be_trained_so_is_refused() -> None:
    def frozen() -> nn.Module:
        network = dfal.lenet5()
        network[:12].requires_grad_(False)
        return network

    images = Images(torch.rand(20, 1, 28, 28, generator=rng()).numpy())
    with pytest.raises(dfal.DfalError, match="all of that is frozen"):
        pretrain(frozen, images, 0, augment="shapes", steps=2)
    with pytest.raises(dfal.DfalError, match="fewer than 2"):
        pretrain(dfal.lenet5, Images(images.array[:1]), 0, augment="shapes")
