"""The one sentence on a study, for each kind of result."""

import dataclasses

import numpy as np
import pytest

import dfal
from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.outcome import outcome, outcomes
from dfal.experiments.trial import Trial
from dfal.protocols import Strategy
from dfal.strategies import name_of

RANDOM = [0.70, 0.72, 0.71, 0.73]


def curve(strategy: Strategy, final: list[float], first_seed: int = 0) -> Curve:
    """A curve from 50 % at 10 labels to these accuracies, one for each seed, at 20."""
    trials = tuple(
        Trial(strategy=strategy, seed=first_seed + number, annotations=20)
        for number in range(len(final))
    )
    budgets = np.array([10, 20])
    accuracy = np.array([[0.5, value] for value in final])
    return Curve(
        name_of(strategy), trials, ((),) * len(final), budgets, budgets * 1.0, accuracy, True
    )


def study(*curves: Curve, against: str | None = None) -> Study:
    return Study(Trial(annotations=20), curves, against)


def random_plus(*points: float) -> list[float]:
    return [value + point for value, point in zip(RANDOM, points, strict=False)]


def test_a_significant_gain() -> None:
    """Differences 10, 12, 11, 11 points: mean 11, standard error 0.408, t₀.₉₇₅(3) = 3.182."""
    ours = curve(dfal.DFAL(), random_plus(0.10, 0.12, 0.11, 0.11))
    assert outcome(study(ours, curve(dfal.Random(), RANDOM))) == (
        "With 20 labels, dfal reaches 82.5 % (4 seeds), 11.0 points more than random sampling"
        " (95 % CI 9.7 to 12.3)."
    )


def test_a_significant_loss() -> None:
    ours = curve(dfal.DFAL(), random_plus(-0.10, -0.12, -0.11, -0.11))
    assert outcome(study(ours, curve(dfal.Random(), RANDOM))) == (
        "With 20 labels, dfal reaches 60.5 % (4 seeds), 11.0 points less than random sampling"
        " (95 % CI 9.7 to 12.3)."
    )


def test_a_difference_that_is_not_significant_says_how_many_seeds_would_detect_it() -> None:
    """Differences 4, −2, 4, 2: mean 2, standard error 1.414, t = 1.414, p = 0.252."""
    ours = curve(dfal.DFAL(), random_plus(0.04, -0.02, 0.04, 0.02))
    assert outcome(study(ours, curve(dfal.Random(), RANDOM))) == (
        "With 20 labels, dfal reaches 73.5 % (4 seeds), but its difference of +2.0 points from"
        " random sampling is not significant (95 % CI −2.5 to +6.5, p = 0.252); about 18 seeds"
        " would detect a difference of this size."
    )


def test_no_difference_at_all_gives_no_advice() -> None:
    ours = curve(dfal.DFAL(), RANDOM)
    assert outcome(study(ours, curve(dfal.Random(), RANDOM))) == (
        "With 20 labels, dfal reaches 71.5 % (4 seeds), but its difference of 0.0 points from"
        " random sampling is not significant (95 % CI 0.0 to 0.0, p = 1.000)."
    )


def test_holm_counts_all_comparisons() -> None:
    """Alone p is below 0.05; with two more comparisons that show nothing it is not, and the
    interval, which is of one difference, excludes 0."""
    ours = curve(dfal.DFAL(), random_plus(0.04, 0.01, 0.04, 0.03))
    alone = study(ours, curve(dfal.Random(), RANDOM))
    assert outcome(alone).endswith("3.0 points more than random sampling (95 % CI 0.7 to 5.3).")
    others = [
        curve(strategy, random_plus(0.02, -0.02, 0.01, -0.01))
        for strategy in (dfal.Margin(), dfal.Entropy())
    ]
    assert outcome(study(ours, curve(dfal.Random(), RANDOM), *others)) == (
        "With 20 labels, dfal reaches 74.5 % (4 seeds), but its difference of +3.0 points from"
        " random sampling is not significant (95 % CI +0.7 to +5.3, p = 0.072 after Holm's"
        " correction for 3 comparisons)."
    )


def test_it_says_where_the_mean_accuracy_over_the_curve_has_another_answer() -> None:
    """At 20 labels 10, 12, 11, 11 points more; over the curve 5, 6, −6, −7."""
    ours = curve(dfal.DFAL(), random_plus(0.10, 0.12, 0.11, 0.11))
    first = 0.5 + np.array([0.0, 0.0, -0.23, -0.25])
    ours = dataclasses.replace(ours, accuracy=np.stack([first, ours.accuracy[:, 1]], axis=1))
    random = curve(dfal.Random(), RANDOM)
    assert outcome(study(ours, random)).endswith(
        "11.0 points more than random sampling (95 % CI 9.7 to 12.3); its mean accuracy over"
        " the curve (AULC) does not differ significantly (−0.5 points, p = 0.895)."
    )
    apart = random_plus(0.04, -0.02, 0.04, 0.02)
    ours = curve(dfal.DFAL(), apart)
    first = 0.5 + np.array([0.16, 0.22, 0.16, 0.18])
    ours = dataclasses.replace(ours, accuracy=np.stack([first, ours.accuracy[:, 1]], axis=1))
    assert outcome(study(ours, random)).endswith(
        "is not significant (95 % CI −2.5 to +6.5, p = 0.252); that of its mean accuracy"
        " over the curve (AULC) is (+10.0 points, p < 0.001)."
    )


def test_one_seed_claims_nothing() -> None:
    ours = curve(dfal.DFAL(), [0.9])
    assert outcome(study(ours, curve(dfal.Random(), [0.8]))) == (
        "With 20 labels, dfal reaches 90.0 % (1 seed), 10.0 points more than random sampling; one"
        " seed cannot tell this from chance, so run more (--seeds)."
    )


def test_without_dfal_it_is_about_the_largest_gain() -> None:
    margin = curve(dfal.Margin(), random_plus(0.10, 0.12, 0.11, 0.11))
    entropy = curve(dfal.Entropy(), random_plus(0.20, 0.22, 0.21, 0.21))
    random = curve(dfal.Random(), RANDOM)
    sentence = outcome(study(random, margin, entropy))
    assert sentence.startswith("With 20 labels, uncertainty reaches 92.5 % (4 seeds), 21.0 points")
    other = outcome(study(random, margin, entropy, against="margin"))
    assert other.startswith(
        "With 20 labels, uncertainty reaches 92.5 % (4 seeds), 10.0 points more"
    )
    assert "than margin" in other


def test_it_is_over_the_seeds_and_budgets_that_both_have() -> None:
    ours = curve(dfal.DFAL(), random_plus(0.10, 0.12, 0.11, 0.11))
    short = dataclasses.replace(
        curve(dfal.Random(), RANDOM[:2]),
        annotations=np.array([10]),
        labelled_data=np.array([10.0]),
        accuracy=np.array([[0.4], [0.45]]),
        finished=False,
    )
    assert outcome(study(ours, short)).startswith(
        "So far, with 10 labels, dfal reaches 50.0 % (2 seeds), but its difference of +7.5 points"
    )


@pytest.mark.parametrize("strategy", [dfal.DFAL(), dfal.Random()])
def test_a_strategy_alone_is_compared_with_nothing(strategy: Strategy) -> None:
    name = "dfal" if isinstance(strategy, dfal.DFAL) else "random sampling"
    assert outcome(study(curve(strategy, RANDOM[:3]))) == (
        f"With 20 labels, {name} reaches 71.0 % (3 seeds); there is no other strategy to compare it"
        " with."
    )


def test_strategies_without_a_common_seed_are_not_compared() -> None:
    ours = curve(dfal.DFAL(), [0.9])
    sentence = outcome(study(ours, curve(dfal.Random(), [0.8], first_seed=5)))
    assert sentence == (
        "With 20 labels, dfal reaches 90.0 % (1 seed); no other strategy has a seed in common with"
        " it."
    )


def test_several_studies_have_titles() -> None:
    one = study(curve(dfal.DFAL(), [0.9]))
    other = dataclasses.replace(one, settings=dataclasses.replace(one.settings, batch=5))
    assert outcomes([]) == []
    assert outcomes([one]) == [outcome(one)]
    assert [sentence.split(": ")[0] for sentence in outcomes([one, other])] == [
        "mnist-5k, lenet5, batch 10",
        "mnist-5k, lenet5, batch 5",
    ]
