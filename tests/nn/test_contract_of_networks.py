"""What holds for every registered network."""

import inspect

import pytest
import torch
from torch import nn

import dfal
from dfal.nn import NETWORKS
from dfal.nn.networks import build

every = pytest.mark.parametrize("name", NETWORKS)


@every
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 32, 48)])
def test_returns_a_logit_for_each_class(name: str, image: tuple[int, int, int]) -> None:
    model = build(name, image, 4).eval()
    images = torch.rand(3, *image)
    with torch.no_grad():
        f = dfal.logits(model, images)  # refuses a softmax or sigmoid at the end
    assert f.shape == (3, 4)
    assert f.dtype == torch.float32
    assert f.isfinite().all()


@every
def test_is_a_new_network_that_the_seed_alone_decides(name: str) -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build(name, (1, 28, 28), 10))
    first, same, other = (nn.utils.parameters_to_vector(model.parameters()) for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.data_ptr() != same.data_ptr()


@every
def test_image_and_classes_have_defaults(name: str) -> None:
    parameters = inspect.signature(NETWORKS[name]).parameters
    assert parameters.keys() >= {"image", "classes"}
    assert isinstance(NETWORKS[name](), nn.Module)


@every
def test_every_strategy_can_use_it(name: str) -> None:
    pool = dfal.Pool.new(torch.rand(12, 1, 28, 28), {0: 0, 1: 1})
    model = build(name, (1, 28, 28), 3)
    for strategy in (dfal.DFAL(), dfal.BALD(), dfal.BADGE(), dfal.EGL()):
        query = strategy(model, pool, 2, dfal.generator(0, 0, "select"))
        assert len(query.indices) == 2, strategy
