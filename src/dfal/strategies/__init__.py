"""Query strategies: which unlabelled images to select for labelling. One family a file."""

import importlib
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from dfal.errors import unknown_name
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from dfal.protocols import Strategy
    from dfal.strategies.badge import BADGE
    from dfal.strategies.bald import BALD
    from dfal.strategies.batch_bald import BatchBALD
    from dfal.strategies.batch_dfal import BatchDFAL
    from dfal.strategies.ceal import CEAL
    from dfal.strategies.clusters import ClusterMargin, TypiClust
    from dfal.strategies.core_set import CoreSet, RobustCoreSet
    from dfal.strategies.coverage import MaxHerding, ProbCover, UHerding
    from dfal.strategies.custom import CustomStrategy
    from dfal.strategies.dfal import DFAL
    from dfal.strategies.egl import EGL
    from dfal.strategies.few_labels import FewLabels
    from dfal.strategies.random import Random
    from dfal.strategies.stochastic import Stochastic
    from dfal.strategies.uncertainty import Entropy, LeastConfidence, Margin
    from dfal.strategies.with_coverage import WithCoverage
    from dfal.strategies.with_twins import WithTwins

__all__ = [
    "BADGE",
    "BALD",
    "CEAL",
    "DFAL",
    "EGL",
    "STRATEGIES",
    "BatchBALD",
    "BatchDFAL",
    "ClusterMargin",
    "CoreSet",
    "CustomStrategy",
    "Entropy",
    "FewLabels",
    "LeastConfidence",
    "Margin",
    "MaxHerding",
    "ProbCover",
    "Random",
    "RobustCoreSet",
    "Stochastic",
    "TypiClust",
    "UHerding",
    "WithCoverage",
    "WithTwins",
    "name_of",
    "named",
    "with_candidates",
]


class StrategyRegistry(Registry["Strategy"]):
    """Strategies by name. A target that is a class is called without arguments."""

    def __getitem__(self, name: str) -> "Strategy":
        """Import the strategy of a name.

        Raises:
            DfalError: for a name that is not there; it offers the nearest one.
        """
        target: Any = super().__getitem__(name)
        strategy: Strategy = target() if isinstance(target, type) else target
        return strategy


STRATEGIES = StrategyRegistry(
    "strategy",
    {
        "dfal": Entry(
            "dfal.strategies.dfal:DFAL",
            "nearest to the decision boundary, plus adversarial twins",
        ),
        "dfal-no-twins": Entry(
            "dfal.strategies.dfal:DFAL_NO_TWINS",
            "nearest to the decision boundary, without twins",
        ),
        "dfal-batch": Entry(
            "dfal.strategies.batch_dfal:BatchDFAL",
            "nearest in each of k clusters, plus adversarial twins",
        ),
        "dfal-batch-no-twins": Entry(
            "dfal.strategies.batch_dfal:BATCH_DFAL_NO_TWINS",
            "nearest in each of k clusters, without twins",
        ),
        "random": Entry("dfal.strategies.random:Random", "random sampling: the baseline"),
        "uncertainty": Entry("dfal.strategies.uncertainty:Entropy", "the paper's name for entropy"),
        "entropy": Entry(
            "dfal.strategies.uncertainty:Entropy", "largest entropy of the class probabilities"
        ),
        "margin": Entry(
            "dfal.strategies.uncertainty:Margin",
            "smallest gap between the two largest probabilities",
        ),
        "least-confidence": Entry(
            "dfal.strategies.uncertainty:LeastConfidence",
            "lowest probability of the predicted class",
        ),
        "bald": Entry(
            "dfal.strategies.bald:BALD", "dropout samples that are each confident but disagree"
        ),
        "ceal": Entry(
            "dfal.strategies.ceal:CEAL", "largest entropy; pseudo-labels for confident images"
        ),
        "core-set": Entry(
            "dfal.strategies.core_set:CoreSet", "farthest in feature space from all labelled images"
        ),
        "core-set-robust": Entry(
            "dfal.strategies.core_set:RobustCoreSet",
            "smallest radius that covers the pool, solved to optimality",
        ),
        "egl": Entry("dfal.strategies.egl:EGL", "longest expected gradient, over all parameters"),
        "dfal-released": Entry(
            "dfal.strategies.dfal:DFAL_RELEASED",
            "DFAL as in the authors' code: 10 steps, no overshoot",
        ),
        "uncertainty-released": Entry(
            "dfal.strategies.uncertainty:ENTROPY_RELEASED",
            "entropy as in the authors' code: 0 · log 0 ranks first",
        ),
        "ceal-released": Entry(
            "dfal.strategies.ceal:CEAL_RELEASED",
            "CEAL as in the authors' code: without pseudo-labels",
        ),
        "core-set-released": Entry(
            "dfal.strategies.core_set:CORE_SET_RELEASED",
            "CORE-SET as in the authors' code: on class probabilities",
        ),
        "egl-released": Entry(
            "dfal.strategies.egl:EGL_RELEASED",
            "EGL as in the authors' code: length of the mean gradient",
        ),
        "egl-last-layer": Entry(
            "dfal.strategies.egl:EGL_LAST_LAYER", "longest expected gradient, over the last layer"
        ),
        "badge": Entry(
            "dfal.strategies.badge:BADGE", "long and different gradients of the last layer"
        ),
        "batch-bald": Entry(
            "dfal.strategies.batch_bald:BatchBALD",
            "batch with the most mutual information with the weights",
        ),
        "power-bald": Entry(
            "dfal.strategies.stochastic:POWER_BALD", "sampled in proportion to BALD's score"
        ),
        "cluster-margin": Entry(
            "dfal.strategies.clusters:ClusterMargin", "smallest margins, from each cluster in turn"
        ),
        "typi-clust": Entry(
            "dfal.strategies.clusters:TypiClust",
            "most typical image of each cluster; for first labels",
        ),
        "prob-cover": Entry(
            "dfal.strategies.coverage:ProbCover",
            "most images within a radius; for first labels",
        ),
        "max-herding": Entry(
            "dfal.strategies.coverage:MaxHerding",
            "most coverage under a smooth kernel; for first labels",
        ),
        "u-herding": Entry(
            "dfal.strategies.coverage:UHerding",
            "most uncertainty covered; for few and many labels",
        ),
        "few-labels": Entry(
            "dfal.strategies.few_labels:FewLabels",
            "clusters, then coverage of what is uncertain; for features",
        ),
    },
)
"""Every strategy by its name on the command line, in the order of help and docs."""

TWINS = "+twins"
"""Suffix of a name that stands for `WithTwins` around the strategy."""

_MODULES = {
    attribute: module
    for module, _, attribute in (
        *(STRATEGIES.entry(name).target.partition(":") for name in STRATEGIES),
        ("dfal.strategies.custom", ":", "CustomStrategy"),
        ("dfal.strategies.stochastic", ":", "Stochastic"),
        ("dfal.strategies.with_coverage", ":", "WithCoverage"),
        ("dfal.strategies.with_twins", ":", "WithTwins"),
    )
}
"""Where the classes lie: each is imported when it is first used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def named(name: str, *, imports: bool = False) -> "Strategy":
    """Return the strategy of a name; with "+twins" behind it, one that adds adversarial twins.

    Args:
        name: one of `STRATEGIES`, in lower or upper case.
        imports: whether package.module:name is accepted as well, whose code is then run.

    Raises:
        DfalError: for a name that is not there; it offers the nearest one.
    """
    from dfal.strategies.custom import load_custom
    from dfal.strategies.with_twins import WithTwins

    plain = name.strip().removesuffix(TWINS)
    if imports and ":" in plain:
        strategy: Strategy = load_custom(plain)
    elif plain.lower() in STRATEGIES:
        strategy = STRATEGIES[plain.lower()]
    else:
        raise unknown_name(
            "strategy", plain, [*STRATEGIES, *(["package.module:name"] if imports else [])]
        )
    return WithTwins(strategy) if name.strip() != plain else strategy


def name_of(strategy: "Strategy") -> str:
    """Return a strategy's name on the command line, whatever its candidates.

    A strategy without a name is called by its class and the settings that are not the default; a
    custom one by package.module:name and all of its settings.
    """
    from dfal.strategies.custom import CustomStrategy, custom
    from dfal.strategies.with_twins import WithTwins

    for name, plain in STRATEGIES.items():
        for suffix, known in (("", plain), (TWINS, WithTwins(plain))):
            if type(known) is type(strategy) and with_candidates(known, None) == with_candidates(
                strategy, None
            ):
                return name + suffix
    twins = isinstance(strategy, WithTwins) and strategy.attack == WithTwins.attack
    inner = strategy.strategy if isinstance(strategy, WithTwins) and twins else strategy
    stored = (
        custom(inner)
        if isinstance(inner, CustomStrategy) or not type(inner).__module__.startswith("dfal.")
        else None
    )
    return short_repr(strategy) if stored is None else stored.label + TWINS * twins


def short_repr(value: Any) -> str:
    """Return the repr of a configuration without its candidates and without default settings."""
    if not is_dataclass(value):
        return repr(value)
    settings = (
        (field, getattr(value, field.name)) for field in fields(value) if field.name != "candidates"
    )
    changed = [
        f"{field.name}={short_repr(setting)}"
        for field, setting in settings
        if setting != field.default
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def with_candidates(strategy: "Strategy", candidates: int | None) -> "Strategy":
    """Return the strategy with that many candidates; unchanged where it has no such setting."""
    changed: Any = strategy
    if not is_dataclass(strategy):
        return strategy
    if hasattr(strategy, "strategy"):
        changed = replace(changed, strategy=with_candidates(changed.strategy, candidates))
    elif hasattr(strategy, "candidates"):
        changed = replace(changed, candidates=candidates)
    result: Strategy = changed
    return result
