"""The closed form of an affine classifier, and the norms of its steps."""

import math

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.attacks.affine import dual
from dfal.nn.features import last_layer_inputs
from plain_attacks import affine, affine_distance


def test_linear_head_measures_in_feature_space(trained: nn.Sequential, some_digits: Tensor) -> None:
    found = dfal.LinearHead()(trained, some_digits)
    x, head = last_layer_inputs(trained, some_digits), trained[-1]
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(found.distance, affine_distance(head, x, 2), rtol=1e-3, atol=1e-5)
    assert found.images.shape == x.shape
    affine_images = dfal.LinearHead()(nn.Sequential(nn.Flatten(), affine(784, 4, 0)), some_digits)
    assert affine_images.images.shape == some_digits.shape


def test_linear_head_refuses_what_does_not_end_in_a_linear_layer(some_digits: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), affine(784, 4, 0), nn.Tanh())
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        dfal.LinearHead()(model, some_digits)


def test_dual_norms() -> None:
    assert (dual(1), dual(2), dual(math.inf), dual(3)) == (math.inf, 2, 1, 1.5)
