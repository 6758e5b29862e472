"""Adversarial twins of any strategy."""

import torch
from torch import nn

import dfal
from strategy_cases import rng


def test_with_twins_asks_what_its_strategy_asks(trained: nn.Sequential, pool: dfal.Pool) -> None:
    alone = dfal.Margin()(trained, pool, 10, rng())
    both = dfal.WithTwins(dfal.Margin())(trained, pool, 10, rng())
    assert torch.equal(alone.indices, both.indices)
    assert both.twins is not None
    found = dfal.DeepFool()(trained, pool.images.take(alone.indices))
    torch.testing.assert_close(both.twins, found.images)
