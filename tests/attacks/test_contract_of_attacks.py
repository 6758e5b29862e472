"""What holds for every attack."""

import math

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.attacks import ATTACKS
from plain_attacks import affine

DEFAULTS: list[dfal.Attack] = [ATTACKS[name]() for name in ATTACKS]
"""Every registered attack."""

VARIANTS = [*DEFAULTS, dfal.DeepFool(p=torch.inf, chunk=7), dfal.DeepFool(classes=3)]


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
def test_leaves_the_network_as_it_was(attack: dfal.Attack, some_digits: Tensor) -> None:
    model = dfal.lenet5().train()
    model[3].eval()
    next(model.parameters()).requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    images, state = some_digits.clone(), torch.get_rng_state()
    attack(model, images)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(images, some_digits)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
def test_does_not_depend_on_the_batch_an_image_is_in(
    attack: dfal.Attack, trained: nn.Sequential, some_digits: Tensor
) -> None:
    together = attack(trained, some_digits)
    alone = [attack(trained, image[None]) for image in some_digits[:12]]
    torch.testing.assert_close(
        together.distance[:12],
        torch.cat([single.distance for single in alone]),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
def test_takes_no_image_at_all(attack: dfal.Attack, trained: nn.Sequential) -> None:
    found = attack(trained, torch.empty(0, 1, 28, 28))
    assert len(found.images) == len(found.distance) == len(found.fooled) == 0


def test_what_cannot_be_fooled_is_infinitely_far() -> None:
    flat = affine(4, 3, 0)
    with torch.no_grad():
        flat.weight[:] = 0
        flat.bias[:] = torch.tensor([1.0, 3.0, 2.0])
    for attack in DEFAULTS:
        found = attack(flat, torch.randn(5, 4))
        assert not found.fooled.any()
        assert (found.distance == math.inf).all()
    assert (dfal.DeepFool(max_steps=1)(dfal.lenet5(), torch.rand(8, 1, 28, 28)).distance > 0).all()


@pytest.mark.parametrize("attack", DEFAULTS, ids=repr)
def test_probabilities_are_refused(attack: dfal.Attack) -> None:
    model = nn.Sequential(affine(4, 3, 0), nn.Softmax(dim=1))
    with pytest.raises(dfal.DfalError, match=r"probabilities.*softmax"):
        attack(model, torch.randn(5, 4))


@pytest.mark.parametrize("attack", DEFAULTS, ids=repr)
def test_nan_logits_are_refused(attack: dfal.Attack) -> None:
    model = affine(4, 3, 0)
    with torch.no_grad():
        model.bias[0] = torch.nan
    with pytest.raises(
        dfal.DfalError, match=r"NaN or infinite logits for (\d) of \1 images"
    ):  # those of a thread
        attack(model, torch.randn(5, 4))
