"""Gradients of logits, and certified distances, against closed forms."""

import math

import torch
from torch import Tensor, nn

import dfal
from dfal.attacks.gradients import LogitGradients, gradients_of
from plain_attacks import Counting, affine, affine_distance


def test_certified_distances_hold_and_are_exact_for_an_affine_network(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    trained.eval()
    network = gradients_of(trained, some_digits[:1])
    distance = certified(network, some_digits, 2)
    assert (distance > 0).all()
    assert (distance <= 1.02 * dfal.DeepFool(p=2)(trained, some_digits).distance).all()
    for p in (1, 2, math.inf):
        layer = affine(12, 4, seed=0)
        x = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
        network, exact = gradients_of(nn.Sequential(layer), x[:1]), affine_distance(layer, x, p)
        bound = certified(network, x, p)
        assert (bound <= exact * 1.0001).all(), "no perturbation that short changes the class"
        if p == 2:
            torch.testing.assert_close(bound, exact, rtol=1e-4, atol=1e-5)
    without_bound = gradients_of(Counting(trained), some_digits[:1])
    assert (certified(without_bound, some_digits, 2) == 0).all()


def certified(network: LogitGradients, x: Tensor, p: float) -> Tensor:
    """A distance within which each image keeps its class."""
    f = network.logits(x)
    return network.certified_distance(f, f.argmax(1), p).amin(1)


def test_one_logit_has_the_certified_distances_of_two() -> None:
    single, double = affine(12, 1, seed=0), affine(12, 2, seed=0)
    with torch.no_grad():
        double.weight[0], double.bias[0] = 0, 0
        double.weight[1], double.bias[1] = single.weight[0], single.bias[0]
    x = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    one, two = (
        certified(gradients_of(nn.Sequential(end), x[:1]), x, 2) for end in (single, double)
    )
    torch.testing.assert_close(one, two)
    assert (one > 0).all()
