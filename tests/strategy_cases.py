"""Small rows, networks and generators for tests of strategies."""

from itertools import combinations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(weight: list[list[float]]) -> nn.Linear:
    model = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        model.weight[:] = torch.tensor(weight)
    return model


Array = NDArray[np.float64]


NONE = torch.empty(0, 2)
"""No centres in the plane."""


points = st.tuples(st.integers(-5, 5), st.integers(-5, 5))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def apart(a: Tensor, b: Tensor) -> Array:
    """Distances in float64, from differences."""
    left, right = a.double().numpy(), b.double().numpy()
    found: Array = np.sqrt(np.square(left[:, None] - right[None]).sum(2))
    return found


def left_over(rows: Tensor, centres: Tensor, chosen: list[int], outliers: int = 0) -> float:
    """The radius within which all rows but the outliers have a centre or a chosen row."""
    nearest = np.sort(apart(rows, torch.cat([rows[chosen], centres])).min(1))
    return 0.0 if outliers >= len(rows) else float(nearest[len(rows) - 1 - outliers])


def optimum(rows: Tensor, centres: Tensor, k: int, outliers: int = 0) -> float:
    return min(
        left_over(rows, centres, list(chosen), outliers)
        for chosen in combinations(range(len(rows)), k)
    )
