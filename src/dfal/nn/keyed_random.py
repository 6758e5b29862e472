"""Random numbers that are a function of a key and a number alone.

They need no generator, and so cost nothing in a CUDA graph, and are the same on all devices.
"""

import math

import torch
from jaxtyping import Bool, Float32, Int32
from torch import Tensor


def random_bits(keys: Int32[Tensor, "s 2"], numbers: Int32[Tensor, "*x"]) -> Int32[Tensor, "s *x"]:
    """Return 32 random bits for each key and number.

    Args:
        keys: two random numbers for each step of each network.
        numbers: different ones.

    Source:
        The 32-bit finaliser of MurmurHash3 (Appleby 2011), twice.
    """
    first, second = keys.view(len(keys), 2, *[1] * numbers.ndim).unbind(1)
    return _mixed(_mixed(numbers ^ first) + second)


def keep_mask(
    keys: Int32[Tensor, "s 2"], numbers: Int32[Tensor, "*x"], p: float
) -> Bool[Tensor, "s *x"]:
    """Return which elements dropout keeps.

    Args:
        keys: as of `random_bits`.
        numbers: of the elements.
        p: the probability that an element is left out.
    """
    return random_bits(keys, numbers) >= min(round(p * 2**32) - 2**31, 2**31 - 1)


def uniform(keys: Int32[Tensor, "s 2"], numbers: Int32[Tensor, "*x"]) -> Float32[Tensor, "s *x"]:
    """Return multiples of 2⁻²⁴ in [0, 1) for each key and number."""
    return ((random_bits(keys, numbers) >> 8) & 0xFFFFFF).float() * 2**-24


def normal(keys: Int32[Tensor, "s 2"], first: int, count: int) -> Float32[Tensor, "s count"]:
    """Return normal draws for each key, by Box & Muller 1958.

    Args:
        keys: as of `random_bits`.
        first: the first of 2 × `count` numbers that are used.
        count: how many draws.
    """
    numbers = torch.arange(first, first + 2 * count, dtype=torch.int32, device=keys.device)
    u, v = uniform(keys, numbers.view(2, count)).unbind(1)
    return (-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos()


def _mixed(x: Int32[Tensor, "*x"]) -> Int32[Tensor, "*x"]:
    """Mix the bits of numbers, whose products wrap around."""
    x = x ^ ((x >> 16) & 0xFFFF)  # the shift fills up with the sign
    x = x * -0x7A143595  # 0x85EBCA6B as a signed number
    x = x ^ ((x >> 13) & 0x7FFFF)
    x = x * -0x3D4D51CB  # 0xC2B2AE35
    return x ^ ((x >> 16) & 0xFFFF)
