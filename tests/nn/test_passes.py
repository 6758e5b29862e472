"""Passes are cut by the size of an image, and give what one pass over all images gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.image_array import Images
from dfal.experiments.measuring import predicted_at
from dfal.nn import passes
from dfal.nn.passes import gathered, image_chunks, images_a_pass

SHAPE = (1, 6, 6)
COUNT = 40


class Small(nn.Module):
    """A network that dfal knows no faster way to run, with dropout; it counts its images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 3)
        self.largest = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest = max(self.largest, len(images))
        logits: Tensor = self.head(self.body(images))
        return logits


@pytest.fixture
def model() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_small_images_are_computed_by_the_thousand_and_large_ones_by_a_few() -> None:
    assert images_a_pass(torch.empty(0, 1, 28, 28)) == 1024
    assert images_a_pass(torch.empty(0, 384)) == 1024
    assert images_a_pass(torch.empty(0, 3, 32, 32)) == 1024
    assert images_a_pass(torch.empty(0, 3, 64, 64), 128) == 128
    assert images_a_pass(torch.empty(0, 3, 224, 224)) == 27
    assert images_a_pass(torch.empty(0, 3, 5000, 5000)) == 1
    assert images_a_pass(torch.empty(0, 3, 224, 224, device="meta")) == 222, "as on a GPU"


Select = Callable[[Small, Tensor], list[Any]]


def strategy(strategy: dfal.Strategy) -> Select:
    def select(model: Small, images: Tensor) -> list[Any]:
        pool = dfal.Pool.new(images, {0: 0, 1: 1, 2: 2})
        query = strategy(model, pool, 5, dfal.generator(0, 0, "select"))
        return [query.indices, query.scores]

    return select


def attack(attack: dfal.Attack) -> Select:
    return lambda model, images: [attack(model, images).images, attack(model, images).distance]


PASSES: dict[str, Select] = {
    "predict": lambda model, images: [dfal.predict(model, images)],
    "features": lambda model, images: [dfal.features(model, images)],
    "accuracy": lambda model, images: [
        predicted_at(model, Images(images), torch.arange(len(images)))
    ],
    "entropy": strategy(dfal.Entropy()),
    "core-set": strategy(dfal.CoreSet()),
    "badge": strategy(dfal.BADGE()),
    "egl": strategy(dfal.EGL()),
    "egl-last-layer": strategy(dfal.EGL(last_layer=True)),
    "typi-clust": strategy(dfal.TypiClust(space="features")),
    "dfal": strategy(dfal.DFAL(attack=dfal.DeepFool(), candidates=None, exact=True)),
    "deepfool": attack(dfal.DeepFool()),
    "fgsm": attack(dfal.FGSM(epsilon=0.1)),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_over_few_images_give_what_one_pass_gives(
    name: str, model: Small, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PASSES[name](model, images)
    assert model.largest > 3
    monkeypatch.setattr(passes, "PASS_BYTES", 3 * 4 * 36 + 35)
    model.largest = 0
    for one, few in zip(whole, PASSES[name](model, images), strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, few, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(one, few)
    assert 0 < model.largest <= 3


@pytest.mark.parametrize("strategy_of_dropout", [dfal.BALD(), dfal.BatchBALD(candidates=20)])
def test_passes_with_dropout_are_cut_too(
    strategy_of_dropout: dfal.Strategy,
    model: Small,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passes, "PASS_BYTES", 8 * 4 * 36)  # it is tried on 8 images of noise
    strategy(strategy_of_dropout)(model, images)
    assert 0 < model.largest <= 8


def test_few_images_are_in_memory_at_a_time(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "PASS_BYTES", 2 * 4 * 36)
    indices = torch.arange(COUNT).flip(0)
    chunks = list(image_chunks(Images(images), indices))
    assert [len(chunk) for chunk, _ in chunks] == [8] * 5
    assert torch.equal(torch.cat([chunk for chunk, _ in chunks]), indices)
    assert torch.equal(torch.cat([some for _, some in chunks]), images.flip(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_gathered_parts_are_those_of_cat(dtype: torch.dtype) -> None:
    parts = [torch.from_numpy(np.arange(n * 3).reshape(n, 3)).to(dtype) for n in (4, 4, 1)]
    found = gathered(iter(parts), 9)
    assert found.dtype == dtype
    assert torch.equal(found, torch.cat(parts))
