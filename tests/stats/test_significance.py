"""Intervals and tests beside SciPy's own and by hand."""

import inspect
import math

import numpy as np
import pytest
from scipy import stats

from dfal.stats.significance import (
    Needed,
    annotations_saved,
    annotations_to_target,
    bootstrap,
    half_width,
    holm,
    paired_p,
    ranks,
    resamples,
    seeds_needed,
)


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


def test_the_bootstrap_by_hand() -> None:
    """Of two values the means are a, (a + b) / 2 twice, and b: the interval is from one value to
    the other."""
    low, high = bootstrap(np.array([[0.2, 5.0], [0.4, 5.0]]))
    np.testing.assert_allclose(low, [0.2, 5])
    np.testing.assert_allclose(high, [0.4, 5])
    assert len(resamples(2)) == 4
    assert len(resamples(5)) == 3125
    assert len(resamples(6)) == 5000
    np.testing.assert_array_equal(resamples(6), resamples(6))
    assert np.isnan(bootstrap(np.ones((1, 3)))).all()


@pytest.mark.parametrize("seeds", [5, 9])
def test_the_bootstrap_is_scipys(seeds: int) -> None:
    values = np.random.default_rng(2).normal(size=seeds)
    named = "rng" in inspect.signature(stats.bootstrap).parameters  # from SciPy 1.15 on
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        method="percentile",
        n_resamples=20000,
        **{"rng" if named else "random_state": 3},
    ).confidence_interval
    low, high = bootstrap(values[:, None])
    np.testing.assert_allclose(
        [float(low[0]), float(high[0])], [theirs.low, theirs.high], atol=0.05
    )


def test_the_bootstrap_of_five_seeds_holds_the_mean_less_often_than_it_says() -> None:
    """As the module's first lines say."""
    samples = np.random.default_rng(4).normal(size=(5, 4000))
    low, high = bootstrap(samples)
    assert 0.80 < np.mean((low <= 0) & (high >= 0)) < 0.86


BUDGETS = np.array([10, 20, 30])


def test_annotations_needed_by_hand() -> None:
    accuracy = np.array([[0.2, 0.6, 0.9], [0.4, 0.8, 0.9]])
    assert annotations_to_target(BUDGETS, accuracy, 0.7) == Needed(20, 20, 30), (
        "0.6, 0.7 twice and 0.8 at 20 annotations"
    )
    assert annotations_to_target(BUDGETS, accuracy, 0.65) == Needed(20, 20, 30)
    assert annotations_to_target(BUDGETS, accuracy, 0.95) == Needed(math.inf, math.inf, math.inf), (
        "right-censored"
    )
    assert annotations_to_target(BUDGETS, accuracy, 0.1) == Needed(10, 10, 10)
    alone = annotations_to_target(BUDGETS, accuracy[:1], 0.6)
    assert alone.annotations == 20
    assert math.isnan(alone.low)


def test_annotations_saved_by_hand() -> None:
    fast, slow = np.array([[0.5, 0.9, 0.9]] * 2), np.array([[0.5, 0.6, 0.9], [0.5, 0.6, 0.9]])
    assert annotations_saved((BUDGETS, fast), (BUDGETS, slow), 0.8) == Needed(10, 10, 10)
    assert annotations_saved((BUDGETS, slow), (BUDGETS, fast), 0.8) == Needed(-10, -10, -10)
    assert annotations_saved((BUDGETS, fast), (BUDGETS, slow), 0.95) == Needed(0, 0, 0), (
        "neither reaches it"
    )
    never = (BUDGETS, slow * 0.5)
    assert annotations_saved((BUDGETS, fast), never, 0.5) == Needed(20, 20, 20), (
        "at least so many: the slow one never gets there"
    )
    longer = np.array([10, 20, 30, 40, 50]), np.array([[0.5, 0.6, 0.7, 0.9, 0.9]] * 2)
    assert annotations_saved((BUDGETS, fast), longer, 0.8) == Needed(20, 20, 20), (
        "40 and not the 30 where ours ends"
    )
    assert annotations_saved((BUDGETS, fast), longer, 0.95) == Needed(0, 0, 0)
    assert annotations_saved((BUDGETS, slow * 0.5), longer, 0.8) == Needed(0, 0, 0), (
        "where ours gets there is not known"
    )
    assert annotations_saved((BUDGETS, slow * 0.5), longer, 0.55) == Needed(-10, -10, -10), (
        "later than at 30, theirs at 20"
    )


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_seeds_needed_are_those_of_the_books(effect: float, pairs: int) -> None:
    """Paired t-test, two-sided, 5 %, power 80 %: 34, 15 and 10 pairs (Cohen's tables, G*Power)."""
    values = np.array([-1.0, 1.0])
    assert seeds_needed(values / values.std(ddof=1) + effect) == pairs


def test_the_seeds_needed_at_the_edges() -> None:
    assert seeds_needed(np.array([-1.0, 1.0])) == math.inf
    assert seeds_needed(np.array([1.0, 1.0])) == 2
    assert math.isnan(seeds_needed(np.array([1.0])))


def test_ranks_are_friedmans_and_nemenyis() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.8, 0.7, 0.6], [0.9, 0.9, 0.1]])
    found = ranks(scores)
    np.testing.assert_allclose(found.mean, [1.125, 2.125, 2.75])
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert ranks(np.zeros((6, 8))).critical == pytest.approx(
        3.031 * math.sqrt(8 * 9 / 36), rel=1e-3
    ), "Demšar's table: q = 3.031"
    assert ranks(np.zeros((14, 4))).critical == pytest.approx(1.25, abs=0.01), (
        "Demšar 2006, section 3.2.3: CD of 4 over 14"
    )
    assert math.isnan(ranks(scores[:1]).p)
    assert ranks(np.zeros((6, 8))).p == 1, "all alike"
