"""Ranks of strategies across settings, which the paper does not give."""

from dataclasses import dataclass

import numpy as np

from dfal.analysis.learning_curves import common
from dfal.reproduce.stored_results import StoredResults
from dfal.stats.significance import Ranks, ranks

MIN_STRATEGIES = 3
"""Strategies of a ranking at least."""


@dataclass(frozen=True)
class Ranking:
    """Strategies, their ranks by AULC, and a phrase for the blocks over which they are ranked."""

    names: tuple[str, ...]
    ranks: Ranks
    over: str


def ranking(results: StoredResults) -> Ranking | None:
    """Rank strategies over settings (data set and network) that share them.

    With one setting they are ranked over its seeds, which says nothing about other data. None where
    there are too few strategies or seeds.
    """
    studies = results.main
    if not studies:
        return None
    shared = sorted(
        set.intersection(*({curve.name for curve in study.curves} for study in studies))
    )
    if len(studies) > 1 and len(shared) >= MIN_STRATEGIES:
        means = [
            {curve.name: float(curve.aulc.mean()) for curve in study.curves} for study in studies
        ]
        scores = np.array([[by_name[name] for name in shared] for by_name in means])
        return Ranking(tuple(shared), ranks(scores), f"{len(studies)} settings")
    curves = common(studies[0].curves)
    if len(curves) < MIN_STRATEGIES or len(curves[0].trials) < 2:
        return None
    settings = studies[0].settings
    scores = np.stack([curve.aulc for curve in curves], axis=1)
    over = f"the {len(scores)} seeds of one setting ({settings.dataset}, {settings.model})"
    return Ranking(tuple(curve.name for curve in curves), ranks(scores), over)
