"""Whom to ask? One strategy, or one family, a file."""

from dataclasses import replace

from dfal.strategies.dfal import DFAL
from dfal.strategies.random import Random
from dfal.strategies.uncertainty import Entropy, LeastConfidence, Margin
from dfal.strategies.with_twins import WithTwins
from dfal.types import Strategy

__all__ = ["DFAL", "NAMED", "Entropy", "LeastConfidence", "Margin", "Random", "WithTwins", "name_of", "with_candidates"]

NAMED: dict[str, Strategy] = {
    "dfal": DFAL(),
    "dfal-no-twins": DFAL(twins=False),
    "random": Random(),
    "uncertainty": Entropy(),
    "entropy": Entropy(),
    "margin": Margin(),
    "least-confidence": LeastConfidence(),
}
"""The strategies by the names of the command line. `uncertainty` is the paper's word for `entropy`."""


def name_of(strategy: Strategy) -> str:
    """The strategy's name on the command line, whatever its candidates; its repr where it has none."""
    for name, named in NAMED.items():
        if type(named) is type(strategy) and with_candidates(named, getattr(strategy, "candidates", None)) == strategy:
            return name
    return repr(strategy)


def with_candidates(strategy: Strategy, candidates: int | None) -> Strategy:
    """The strategy looking at so many candidates; unchanged where it looks at none (random choice)."""
    if not isinstance(strategy, DFAL | Entropy | Margin | LeastConfidence):
        return strategy
    return replace(strategy, candidates=candidates)
