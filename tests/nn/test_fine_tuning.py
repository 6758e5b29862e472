"""A network that is trained further learns, keeps its statistics, and gives the same again."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.image_array import Images
from dfal.nn.augmentation import unchanged
from dfal.nn.fine_tuning import FineTuning, fine_tune

SETTINGS = FineTuning(learning_rate=1e-2, epochs=6, batch=8)


@pytest.fixture
def images() -> Images:
    """60 images; the upper half of those of class 1 is brighter."""
    pixels = 0.5 * torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels[1::2, :, :4] += 0.3
    return Images(pixels.numpy())


LABELS = torch.arange(60) % 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(6 * 36, 2),
    )


def tuned(
    model: nn.Module,
    images: Images,
    settings: FineTuning = SETTINGS,
    augment: Callable[[Tensor, torch.Generator], Tensor] = unchanged,
    **options: Any,
) -> nn.Module:
    train = torch.arange(0, 40)
    return fine_tune(
        model,
        images,
        train,
        LABELS[train],
        augment=augment,
        settings=settings,
        seed=3,
        **options,
    )


def test_it_learns_and_draws_from_its_seed_alone(images: Images) -> None:
    first, second = tuned(network(), images), tuned(network(), images)
    assert not first.training
    test = torch.arange(40, 60)
    predicted = dfal.predict(first, images.take(test)).argmax(1)
    assert (predicted == LABELS[test]).float().mean() > 0.9
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_batch_norm_keeps_its_statistics_unless_it_is_told_otherwise(images: Images) -> None:
    before = copy.deepcopy(network().state_dict())
    kept = tuned(network(), images).state_dict()
    moved = tuned(network(), images, replace(SETTINGS, keep_statistics=False)).state_dict()
    assert torch.equal(kept["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(kept["1.weight"], before["1.weight"])
    assert not torch.equal(moved["1.running_mean"], before["1.running_mean"])


def test_the_learning_rate_rises_and_falls(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    tuned(network(), images)
    assert len(rates) == SETTINGS.steps(40) == 30
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1e-2)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] < 0.5e-2
    assert rates[-1] < 1e-4


def test_each_step_is_said_augmented_and_may_end_the_training(images: Images) -> None:
    said: list[tuple[int, int]] = []
    sizes: list[int] = []

    def augment(batch: Tensor, rng: torch.Generator) -> Tensor:
        sizes.append(len(batch))
        return batch

    tuned(network(), images, augment=augment, proceed=lambda *step: said.append(step))
    assert said == [(step, 30) for step in range(31)]
    assert sizes == [8] * 30

    def ending(step: int, steps: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(network(), images, proceed=ending)
