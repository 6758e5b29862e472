"""Ranks of strategies across settings, which the paper does not give."""

from dataclasses import dataclass

import numpy as np

from dfal.analysis.learning_curves import common
from dfal.reproduce.stored_results import StoredResults
from dfal.stats.significance import Ranks, ranks

FEW = 3
"""Strategies that make a ranking."""


@dataclass(frozen=True)
class Ranking:
    """The strategies, their ranks by area, and over what they were ranked."""

    names: tuple[str, ...]
    ranks: Ranks
    over: str


def ranking(shelf: StoredResults) -> Ranking | None:
    """Over data sets and networks where there are several with the same strategies; otherwise over
    the seeds of the one there is, which tells nothing about other data."""
    studies = shelf.main
    if not studies:
        return None
    shared = sorted(set.intersection(*({one.name for one in study.curves} for study in studies)))
    if len(studies) > 1 and len(shared) >= FEW:
        areas = [{one.name: float(one.area.mean()) for one in study.curves} for study in studies]
        scores = np.array([[area[name] for name in shared] for area in areas])
        return Ranking(tuple(shared), ranks(scores), f"{len(studies)} settings")
    curves = common(studies[0].curves)
    if len(curves) < FEW or len(curves[0].trials) < 2:
        return None
    settings = studies[0].settings
    scores = np.stack([one.area for one in curves], axis=1)
    over = f"the {len(scores)} seeds of one setting ({settings.dataset}, {settings.model})"
    return Ranking(tuple(one.name for one in curves), ranks(scores), over)
