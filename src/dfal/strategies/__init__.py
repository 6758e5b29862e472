"""Whom to ask? One strategy, or one family, a file."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from dfal.attacks import DeepFool
from dfal.errors import unknown_name
from dfal.protocols import Strategy
from dfal.strategies.badge import BADGE
from dfal.strategies.bald import BALD
from dfal.strategies.batch_bald import BatchBALD
from dfal.strategies.batch_dfal import BatchDFAL
from dfal.strategies.ceal import CEAL
from dfal.strategies.clusters import ClusterMargin, TypiClust
from dfal.strategies.core_set import CoreSet, RobustCoreSet
from dfal.strategies.coverage import MaxHerding, ProbCover, UHerding
from dfal.strategies.custom import CustomStrategy, custom, load_custom
from dfal.strategies.dfal import DFAL
from dfal.strategies.egl import EGL
from dfal.strategies.random import Random
from dfal.strategies.stochastic import Stochastic
from dfal.strategies.uncertainty import Entropy, LeastConfidence, Margin
from dfal.strategies.with_twins import WithTwins

__all__ = [
    "ABOUT",
    "BADGE",
    "BALD",
    "CEAL",
    "DFAL",
    "EGL",
    "NAMED",
    "BatchBALD",
    "BatchDFAL",
    "ClusterMargin",
    "CoreSet",
    "CustomStrategy",
    "Entropy",
    "LeastConfidence",
    "Margin",
    "MaxHerding",
    "ProbCover",
    "Random",
    "RobustCoreSet",
    "Stochastic",
    "TypiClust",
    "UHerding",
    "WithTwins",
    "name_of",
    "named",
    "with_candidates",
]

ABOUT: dict[str, tuple[Strategy, str]] = {
    "dfal": (DFAL(), "nearest to the decision boundary; learns the twins too"),
    "dfal-no-twins": (DFAL(twins=False), "nearest to the decision boundary, without the twins"),
    "dfal-batch": (BatchDFAL(), "nearest to it in each of k clusters; learns the twins"),
    "dfal-batch-no-twins": (
        BatchDFAL(twins=False),
        "nearest to it in each of k clusters, without the twins",
    ),
    "random": (Random(), "drawn at random: what every strategy has to beat"),
    "uncertainty": (Entropy(), "the paper's word for entropy"),
    "entropy": (Entropy(), "largest entropy of the class probabilities"),
    "margin": (Margin(), "smallest gap between the two largest probabilities"),
    "least-confidence": (LeastConfidence(), "smallest largest probability"),
    "bald": (BALD(), "networks drawn by dropout are sure, but disagree"),
    "ceal": (CEAL(), "entropy; what is sure is learnt as the network sees it"),
    "core-set": (CoreSet(), "farthest from all that are labelled, in the features"),
    "core-set-robust": (RobustCoreSet(), "smallest radius that covers the pool, proved optimal"),
    "egl": (EGL(), "longest expected gradient, over all parameters"),
    "dfal-released": (
        DFAL(attack=DeepFool(max_steps=10, overshoot=0), exact=True),
        "DFAL by the authors' code: 10 steps, no overshoot",
    ),
    "uncertainty-released": (
        Entropy(guarded=False),
        "entropy by the authors' code: 0 · log 0 comes first",
    ),
    "ceal-released": (CEAL(guesses=False), "CEAL by the authors' code: no guess is learnt"),
    "core-set-released": (
        CoreSet(softmax=True),
        "CORE-SET by the authors' code: far in the probabilities",
    ),
    "egl-released": (
        EGL(mean_gradient=True),
        "EGL by the authors' code: length of the mean gradient",
    ),
    "egl-last-layer": (EGL(last_layer=True), "longest expected gradient, over the last layer"),
    "badge": (BADGE(), "long gradients of the last layer that differ"),
    "batch-bald": (BatchBALD(), "the batch that tells most about the network"),
    "power-bald": (Stochastic(BALD()), "drawn in proportion to BALD's score"),
    "cluster-margin": (ClusterMargin(), "small margins, from each cluster in turn"),
    "typi-clust": (TypiClust(), "the typical image of each cluster; for first labels"),
    "prob-cover": (ProbCover(), "most images within a radius; for first labels"),
    "max-herding": (MaxHerding(), "most coverage under a smooth kernel; for first labels"),
    "u-herding": (UHerding(), "most uncertainty covered; for few and many labels"),
}
"""The strategies by the names of the command line, with a line on each."""

NAMED: dict[str, Strategy] = {name: strategy for name, (strategy, _) in ABOUT.items()}
"""The strategies by those names. `uncertainty` is the paper's word for `entropy`."""

TWINS = "+twins"
"""What is written behind a name for `WithTwins` around the strategy."""


def named(name: str, *, imports: bool = False) -> Strategy:
    """The strategy of that name; with "+twins" behind it, together with the adversarial twins of
    what it asks about.

    Args:
        name: one of `NAMED`, in small letters or large.
        imports: whether it may be package.module:name, too, whose code is then run.

    Raises:
        DfalError: for a name that is not there. It offers the nearest.
    """
    plain = name.strip().removesuffix(TWINS)
    if imports and ":" in plain:
        found: Strategy = load_custom(plain)
    elif plain.lower() in NAMED:
        found = NAMED[plain.lower()]
    else:
        raise unknown_name(
            "strategy", plain, [*NAMED, *(["package.module:name"] if imports else [])]
        )
    return WithTwins(found) if name.strip() != plain else found


def name_of(strategy: Strategy) -> str:
    """The strategy's name on the command line, whatever its candidates; where it has none its class
    and the settings that are not the default. That of the user's own has all of its settings behind
    it."""
    for name, one in NAMED.items():
        for suffix, known in (("", one), (TWINS, WithTwins(one))):
            if type(known) is type(strategy) and with_candidates(known, None) == with_candidates(
                strategy, None
            ):
                return name + suffix
    twins = isinstance(strategy, WithTwins) and strategy.attack == WithTwins.attack
    inner = strategy.strategy if isinstance(strategy, WithTwins) and twins else strategy
    theirs = (
        custom(inner)
        if isinstance(inner, CustomStrategy) or not type(inner).__module__.startswith("dfal.")
        else None
    )
    return _brief(strategy) if theirs is None else theirs.label + TWINS * twins


def _brief(value: Any) -> str:
    """The repr without candidates and without what is the default."""
    if not is_dataclass(value):
        return repr(value)
    told = (
        (field, getattr(value, field.name)) for field in fields(value) if field.name != "candidates"
    )
    changed = [
        f"{field.name}={_brief(setting)}" for field, setting in told if setting != field.default
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def with_candidates(strategy: Strategy, candidates: int | None) -> Strategy:
    """The strategy looking at so many candidates; unchanged where it looks at none (random
    choice)."""
    value: Any = strategy
    if not is_dataclass(strategy):
        return strategy
    if hasattr(strategy, "strategy"):
        value = replace(value, strategy=with_candidates(value.strategy, candidates))
    elif hasattr(strategy, "candidates"):
        value = replace(value, candidates=candidates)
    changed: Strategy = value
    return changed
