"""FGSM against the sign of PyTorch's own gradient."""

import torch
from torch import Tensor, nn

import dfal


def test_fgsm_moves_every_pixel_by_epsilon_uphill(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.FGSM(epsilon=0.1)(trained, some_digits)
    x = some_digits.clone().requires_grad_()
    f = trained(x)
    nn.functional.cross_entropy(f, f.argmax(1), reduction="sum").backward()
    assert x.grad is not None
    torch.testing.assert_close(found.images, some_digits + 0.1 * x.grad.sign())
    assert torch.equal(found.fooled, trained(found.images).argmax(1) != f.argmax(1))
    torch.testing.assert_close(
        found.distance[found.fooled], torch.full((int(found.fooled.sum()),), 0.1)
    )
