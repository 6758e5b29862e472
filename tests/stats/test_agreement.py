"""Intervals of fractions and coefficients of agreement, by hand and against their sources."""

import numpy as np
import pytest

from dfal.stats.agreement import alpha, answers_to_confirm, kappa, wilson


def test_wilson_s_interval_is_where_the_score_test_turns() -> None:
    # The interval holds every p with |p̂ − p| ≤ z √(p (1 − p) / n).
    for right, n in ((0, 5), (3, 12), (57, 60), (60, 60)):
        for p in wilson(right, n):
            assert abs(right / n - p) == pytest.approx(
                1.959963985 * (p * (1 - p) / n) ** 0.5, abs=1e-8
            )
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(8, 10)
    assert [low, high] == pytest.approx([0.4901625, 0.9433178], abs=1e-6)


def test_cohen_s_kappa_on_a_table_done_by_hand() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, by chance 0.5.
    a = np.array([1] * 25 + [0] * 25)
    b = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert kappa(a, b) == pytest.approx(0.4)
    assert kappa(a, a) == 1
    assert kappa(np.zeros(3, np.int64), np.zeros(3, np.int64)) == 1


def test_krippendorff_s_alpha_on_his_own_example() -> None:
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: four observers,
    # missing values: 0.743.
    units = [
        [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
        [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
    ]  # fmt: skip
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)
    # Two observers, binary data, section B: 0.095.
    first, second = "0100000010", "1110010000"
    assert alpha([[int(a), int(b)] for a, b in zip(first, second, strict=True)]) == pytest.approx(
        0.095, abs=5e-4
    )


def test_alpha_where_nothing_can_be_said_and_where_all_agree() -> None:
    assert alpha([]) is None
    assert alpha([[1], [2], [-2, 1]]) is None
    assert alpha([[1, 1], [1, 1]]) is None
    assert alpha([[1, 1], [2, 2, -2]]) == 1


@pytest.mark.parametrize(
    ("value", "n", "target", "more"),
    [
        (1.0, 4, 0.95, 69),
        (1.0, 100, 0.95, 0),
        (0.97, 100, 0.95, 357),
        (0.95, 100, 0.95, None),
        (0.9, 30, 0.8, 32),
    ],
)
def test_answers_to_confirm_are_where_the_interval_s_lower_end_is_the_target(
    value: float, n: int, target: float, more: int | None
) -> None:
    assert answers_to_confirm(value, n, target) == more
    if more:  # as the score test says, whose z is 1.96
        z = [
            (value - target) / (target * (1 - target) / total) ** 0.5
            for total in (n + more - 1, n + more)
        ]
        assert z[0] < 1.959963985 <= z[1]
