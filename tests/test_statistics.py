"""Intervals and tests beside SciPy's own and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from dfal.statistics import half_width, holm, paired_p


def test_the_interval_is_students() -> None:
    values = np.array([0.81, 0.84, 0.79, 0.83])
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)
    assert math.isnan(half_width(values[:1]))


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(2000, 5))
    held = [abs(sample.mean()) <= half_width(sample) for sample in samples]
    assert 0.935 < np.mean(held) < 0.965


def test_the_paired_test_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=8), rng.normal(0.5, size=8)
    assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_p(np.zeros(4)) == 1
    assert paired_p(np.ones(4)) == 0
    assert math.isnan(paired_p(np.ones(1)))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    found = holm([0.02, float("nan"), 0.01])
    assert found[0] == 0.02
    assert math.isnan(found[1])
    assert found[2] == 0.02
    assert holm([]) == []
