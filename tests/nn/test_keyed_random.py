"""Random numbers of a key and a number are those of the plain formulas, and look random."""

import math

import pytest
import torch

from dfal.nn.keyed_random import keep_mask, normal, random_bits, uniform

KEYS = torch.tensor([[-(2**31), 17], [12345, -1]], dtype=torch.int32)


def mixed(x: int) -> int:
    """The finaliser of MurmurHash3, in whole numbers."""
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def plain_bits(key: list[int], number: int) -> int:
    first, second, number = (each % 2**32 for each in (*key, number))
    return mixed((mixed(number ^ first) + second) % 2**32)


def test_bits_are_a_function_of_key_and_number() -> None:
    numbers = torch.tensor([[0, 1, 2**29], [-(2**31), -1, 2**31 - 1]], dtype=torch.int32)
    bits = random_bits(KEYS, numbers)
    assert bits.shape == (2, 2, 3)
    for key, row in zip(KEYS.tolist(), bits.flatten(1).tolist(), strict=True):
        for got, number in zip(row, numbers.flatten().tolist(), strict=True):
            assert got % 2**32 == plain_bits(key, number)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_dropout_keeps_what_is_at_least_p(p: float) -> None:
    numbers = torch.arange(40, dtype=torch.int32)
    kept = keep_mask(KEYS, numbers.view(8, 5), p).flatten(1)
    for key, row in zip(KEYS.tolist(), kept.tolist(), strict=True):
        for number, keep in enumerate(row):
            bits = plain_bits(key, number)
            signed = bits - 2**32 if bits >= 2**31 else bits
            assert keep == (signed >= min(round(p * 2**32) - 2**31, 2**31 - 1))


def test_dropout_keeps_elements_independently() -> None:
    keys = torch.randint(-(2**31), 2**31, (400, 2), dtype=torch.int32)
    kept = keep_mask(keys, torch.arange(500, dtype=torch.int32), 0.25).double()
    assert kept.mean() == pytest.approx(0.75, abs=0.004)
    for table in torch.corrcoef(kept), torch.corrcoef(kept.T):
        beside = table - torch.eye(len(table))
        assert beside.abs().max() < 0.3
        assert beside.mean().abs() < 0.002


def test_uniform_draws_are_the_upper_bits() -> None:
    draws = uniform(KEYS, torch.arange(-2, 3, dtype=torch.int32))
    want = [[(plain_bits(key, i) >> 8) / 2**24 for i in range(-2, 3)] for key in KEYS.tolist()]
    assert draws.tolist() == want
    many = uniform(KEYS, torch.arange(40_000, dtype=torch.int32))
    assert 0 <= many.min() < 0.001
    assert 0.999 < many.max() < 1
    assert many.mean(1).tolist() == pytest.approx([0.5, 0.5], abs=0.006)
    assert many.var(1).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.002)


def test_normal_draws_are_those_of_the_formula() -> None:
    draws = normal(KEYS, -10, 3)
    for key, row in zip(KEYS.tolist(), draws.tolist(), strict=True):
        for place, got in enumerate(row):
            u, v = ((plain_bits(key, -10 + i) >> 8) / 2**24 for i in (place, place + 3))
            want = math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)
            assert got == pytest.approx(want, abs=1e-5)


def test_normal_draws_are_normal_and_independent() -> None:
    keys = torch.randint(
        -(2**31), 2**31, (300, 2), dtype=torch.int32, generator=torch.Generator().manual_seed(0)
    )
    draws = normal(keys, -(2**31), 500).double()
    assert draws.isfinite().all()
    moments = [float(draws.pow(power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    for table in torch.corrcoef(draws), torch.corrcoef(draws.T):
        beside = table - torch.eye(len(table))
        assert beside.abs().max() < 0.35
        assert beside.mean().abs() < 0.002
