"""The steps of DeepFool are those of the attack."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.attacks.affine import dual, norm
from dfal.attacks.trace import trace
from plain_attacks import affine


def curved() -> nn.Sequential:
    """A network whose boundary bends, so that one step does not reach it."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3), nn.Tanh()).double()


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_the_steps_lead_to_the_image_that_the_attack_returns(p: float) -> None:
    attack, model = dfal.DeepFool(p=p), curved()
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).double()
    perturbation, longest = attack(model, points), 0
    for index, point in enumerate(points):
        steps = trace(attack, model, point)
        longest = max(longest, len(steps))
        assert torch.equal(steps[0].x, point)
        assert all(torch.equal(a.to, b.x) for a, b in itertools.pairwise(steps))
        torch.testing.assert_close(steps[-1].to, perturbation.images[index], rtol=0, atol=1e-12)
        classes = dfal.logits(model, torch.stack([step.to for step in steps])).argmax(1)
        own = dfal.logits(model, point.unsqueeze(0)).argmax(1)
        assert (classes[:-1] == own).all()
        assert bool(classes[-1] != own) == bool(perturbation.fooled[index])
    assert longest > 1


def test_a_step_reaches_the_nearest_boundary_of_the_linearised_network(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    image = some_digits[0]
    first, *_ = trace(dfal.DeepFool(overshoot=0), trained, image)
    x = image.unsqueeze(0).requires_grad_()
    f = dfal.logits(trained, x)[0]
    own = int(f.argmax())
    distances = {}
    for k in set(range(10)) - {own}:
        (w,) = torch.autograd.grad(f[k] - f[own], x, retain_graph=True)
        distances[k] = float((f[own] - f[k]).detach() / norm(w, dual(2))[0])
    nearest = min(distances, key=distances.__getitem__)
    assert first.candidate_class == nearest
    assert first.distance == pytest.approx(distances[nearest], rel=1e-4)
    assert float(norm(first.to - first.x, 2, rows=0)) == pytest.approx(first.distance, rel=1e-4)


def test_an_affine_classifier_takes_one_step() -> None:
    model, x = affine(5, 4, seed=3), torch.randn(5, generator=torch.Generator().manual_seed(2))
    (step,) = trace(dfal.DeepFool(), model, x)
    assert step.distance == pytest.approx(float(dfal.LinearHead()(model, x[None]).distance))


def test_there_are_no_more_steps_than_the_attack_may_take() -> None:
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).double()
    attack = dfal.DeepFool(max_steps=1, overshoot=0)
    assert {len(trace(attack, curved(), point)) for point in points} == {1}


def test_an_image_without_a_gradient_takes_no_step() -> None:
    constant = nn.Linear(2, 3)
    nn.init.zeros_(constant.weight)
    assert trace(dfal.DeepFool(), constant, torch.ones(2)) == []


def test_wrong_images_are_refused() -> None:
    with pytest.raises(dfal.DfalError):
        trace(dfal.DeepFool(), curved(), torch.ones(3).double())
