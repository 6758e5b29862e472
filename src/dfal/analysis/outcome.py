"""The outcome of a study in one sentence."""

from collections.abc import Sequence

import numpy as np

from dfal.analysis.learning_curves import Comparison, Curve, Study
from dfal.analysis.studies import titles
from dfal.analysis.tables import CI, format_p, signed
from dfal.stats.significance import paired_p, seeds_needed
from dfal.strategies import DFAL, Random

OVER_CURVE = "mean accuracy over the curve (AULC)"
MAX_SEEDS = 1000
"""A larger number of seeds is no advice."""


def outcomes(studies: Sequence[Study]) -> list[str]:
    """Return the outcome of each study, after its title where there are several."""
    if len(studies) == 1:
        return [outcome(studies[0])]
    return [
        f"{title}: {outcome(study)}" for title, study in zip(titles(studies), studies, strict=True)
    ]


def outcome(study: Study) -> str:
    """Return one sentence on the accuracy at the last budget and its difference from a reference.

    It is about DFAL where DFAL is compared with random sampling, otherwise about the strategy with
    the largest difference. A difference is called one only where a paired t-test at that budget has
    p < 0.05 after Holm's correction for all comparisons of the study. Where the test of the mean
    accuracy over the curve (AULC), which the tables show, has another answer, the sentence says so.
    """
    comparisons = study.final_comparisons
    if not comparisons:
        return _without_reference(study)
    first = comparisons[0]
    if study.against is not None or not isinstance(first.curve.trials[0].strategy, DFAL):
        first = max(
            (other for other in comparisons if other.reference is first.reference),
            key=lambda comparison: comparison.gain,
        )
    names = (first.curve.name, first.reference.name)
    whole_curve = next(
        comparison
        for comparison in study.comparisons
        if (comparison.curve.name, comparison.reference.name) == names
    )
    return _compared(first, whole_curve, len(comparisons))


def _without_reference(study: Study) -> str:
    curve = max(study.curves, key=lambda curve: float(curve.mean[-1]))
    accuracy = f"{100 * float(curve.mean[-1]):.1f} % ({_seeds(len(curve.trials))})"
    reason = (
        "no other strategy has a seed in common with it"
        if len(study.curves) > 1
        else "there is no other strategy to compare it with"
    )
    begin = "With" if curve.finished else "So far, with"
    return f"{begin} {curve.annotations[-1]} labels, {_name(curve)} reaches {accuracy}; {reason}."


def _compared(comparison: Comparison, whole_curve: Comparison, family: int) -> str:
    """Return the sentence on a difference.

    Args:
        comparison: at the last budget.
        whole_curve: the same, of AULC.
        family: how many comparisons the p-values are corrected for.
    """
    curve, reference = comparison.curve, comparison.reference
    budget = max(set(curve.annotations.tolist()) & set(reference.annotations.tolist()))
    accuracies = curve.at(budget)
    assert accuracies is not None  # noqa: S101
    paired = [seed in reference.seeds for seed in curve.seeds]
    reached = 100 * float(accuracies[np.array(paired)].mean())
    finished = curve.finished and reference.finished
    begin = (
        f"{'With' if finished else 'So far, with'} {budget} labels, {_name(curve)} reaches"
        f" {reached:.1f} % ({_seeds(comparison.seeds)})"
    )
    gain, name = 100 * comparison.gain, _name(reference)
    size = f"{abs(gain):.1f} points {'more' if gain >= 0 else 'less'} than {name}"
    if comparison.seeds < 2:
        return f"{begin}, {size}; one seed cannot tell this from chance, so run more (--seeds)."
    half = 100 * comparison.half_width
    aulc = f"{signed(100 * whole_curve.gain, 1)} points, {_p(whole_curve)}"
    if comparison.significant:
        low, high = abs(gain) - half, abs(gain) + half
        doubt = f"; its {OVER_CURVE} does not differ significantly ({aulc})"
        return (
            f"{begin}, {size} ({CI} {low:.1f} to {high:.1f})"
            f"{'' if whole_curve.significant else doubt}."
        )
    corrected = f" after Holm's correction for {family} comparisons" if family > 1 else ""
    return (
        f"{begin}, but its difference of {signed(gain, 1)} points from {name} is not significant"
        f" ({CI} {signed(gain - half, 1)} to {signed(gain + half, 1)}, {_p(comparison)}{corrected})"
        + (
            f"; that of its {OVER_CURVE} is ({aulc})."
            if whole_curve.significant
            else f"{seeds_advice(comparison)}."
        )
    )


def _p(comparison: Comparison) -> str:
    p = format_p(comparison.p)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def seeds_advice(comparison: Comparison) -> str:
    """Return how many seeds would detect a difference, as the end of a sentence.

    Returns:
        Nothing where it is significant, also without the correction, and where no larger number of
        seeds up to `MAX_SEEDS` would do.
    """
    seeds = seeds_needed(comparison.differences)
    if paired_p(comparison.differences) < 0.05 or not comparison.seeds < seeds <= MAX_SEEDS:
        return ""
    return f"; about {seeds:.0f} seeds would detect a difference of this size"


def _name(curve: Curve) -> str:
    return "random sampling" if isinstance(curve.trials[0].strategy, Random) else curve.name


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
