"""Calibration and doubts on simulated models whose mistakes are known."""

import numpy as np
import pytest
from jaxtyping import Float64, Int64
from scipy.special import log_softmax, softmax

from dfal.labelling.learning.doubts import doubtful, is_reliable
from dfal.models.calibration import temperature

Answers = tuple[Float64[np.ndarray, "n c"], Int64[np.ndarray, "n"]]


def answers(n: int, t: float, seed: int, classes: int = 10) -> Answers:
    """Logits, and true labels drawn so that softmax(logits / t) is exactly how often each class is
    right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 3 * t
    p = softmax(logits / t, axis=1)
    return logits, (p.cumsum(1) > rng.random((n, 1))).argmax(1)


def confidence(logits: Float64[np.ndarray, "n c"], t: float) -> float:
    return float(softmax(logits / t, axis=1).max(1).mean())


@pytest.mark.parametrize("t", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_after_calibration_confidence_is_accuracy_on_fresh_answers(t: float, seed: int) -> None:
    """300 answers fix the temperature to a tenth or so. Fresh answers: 40,000, whose accuracy is
    known to 0.3 %."""
    fresh, truth = answers(40_000, t, 100 + seed)
    accuracy = float((fresh.argmax(1) == truth).mean())
    found = temperature(*answers(300, t, seed))
    assert found == pytest.approx(t, rel=0.25)
    assert confidence(fresh, found) == pytest.approx(accuracy, abs=0.05)
    if t == 4:
        assert confidence(fresh, 1.0) > accuracy + 0.15, "it was far too confident before"


def test_the_temperature_minimises_the_likelihood_and_its_prior() -> None:
    logits, labels = answers(50, 3.0, 0)

    def cost(t: float) -> float:
        return float(
            np.log(t) ** 2 / 2 - log_softmax(logits / t, axis=1)[np.arange(50), labels].sum()
        )

    found = temperature(logits, labels)
    assert cost(found) <= min(cost(found * 1.01), cost(found / 1.01))


def test_a_few_answers_do_not_move_the_temperature_far() -> None:
    logits = np.eye(10)[np.arange(5)] * 8
    assert 0.3 < temperature(logits, np.arange(5)) <= 1, "five right answers make nobody certain"
    assert temperature(np.empty((0, 10)), np.empty(0, np.int64)) == pytest.approx(1)


def test_a_network_that_is_right_for_a_quarter_says_a_quarter() -> None:
    """Logits that tell little: mean confidence 0.7 before."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> Answers:
        labels = rng.integers(10, size=n)
        logits = rng.normal(size=(n, 10)) * 2.5
        logits[np.arange(n), labels] += 1.8
        return logits, labels

    fresh, truth = draw(20_000)
    accuracy = float((fresh.argmax(1) == truth).mean())
    assert 0.2 < accuracy < 0.3
    assert confidence(fresh, 1.0) > 0.6
    found = temperature(*draw(200))
    assert confidence(fresh, found) == pytest.approx(accuracy, abs=0.08)
    sure = softmax(fresh / found, axis=1).max(1) >= 0.95
    assert sure.mean() < 0.01, "nothing is almost certain any more"


@pytest.mark.parametrize("t", [1.0, 3.0])
@pytest.mark.parametrize("n", [220, 2000])
def test_true_labels_are_not_doubted_however_confident_the_network_is(t: float, n: int) -> None:
    for seed in range(5):
        logits, labels = answers(n, t, seed)
        against = logits.argmax(1) != labels
        assert against.sum() > 0.15 * n, "there are contradictions"
        assert doubtful(logits, labels).sum() == 0


@pytest.mark.parametrize("t", [1.0, 3.0])
def test_wrong_labels_are_doubted_and_most_doubts_are_right(t: float) -> None:
    for seed in range(3):
        logits, labels = answers(2000, t, seed)
        rng = np.random.default_rng(seed)
        wrong = rng.random(2000) < 0.05
        labels = np.where(wrong, (labels + rng.integers(1, 10, size=2000)) % 10, labels)
        found = doubtful(logits, labels)
        assert (found & wrong).sum() > 0.3 * wrong.sum()
        assert (found & wrong).sum() > 0.6 * found.sum()
        assert not (found & (logits.argmax(1) == labels)).any()


@pytest.mark.parametrize(
    ("right", "n", "commonest", "reliable"),
    [
        (19, 19, 2, False),
        (20, 20, 10, True),
        (18, 20, 15, False),  # 70 % to 97 % against 75 %
        (25, 100, 20, False),
        (35, 100, 20, True),
        (90, 100, 90, False),  # always says the commonest
        (0, 0, 0, False),
    ],
)
def test_a_model_must_be_better_than_the_commonest_class(
    right: int, n: int, commonest: int, reliable: bool
) -> None:
    assert is_reliable(right, n, commonest) == reliable


def test_a_model_that_is_not_reliable_doubts_nothing() -> None:
    labels = np.zeros(500, np.int64)
    labels[::10] = 1
    logits = np.zeros((500, 2))
    logits[:, 0] = 9.0  # it knows one class only
    assert doubtful(logits, labels).sum() == 0
    assert doubtful(np.empty((0, 2)), np.empty(0, np.int64)).sum() == 0
