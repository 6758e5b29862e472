"""Random sampling."""

import math

import torch
from torch import nn

import dfal
from strategy_cases import rng


def test_random_is_uniform() -> None:
    pool = dfal.Pool.new(torch.zeros(10, 1), {0: 0, 5: 1})
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[dfal.Random()(nn.Identity(), pool, 2, rng(seed)).indices] += 1
    assert counts[[0, 5]].sum() == 0
    rest = counts[[1, 2, 3, 4, 6, 7, 8, 9]]
    assert ((rest - 500).abs() < 5 * math.sqrt(500)).all()
