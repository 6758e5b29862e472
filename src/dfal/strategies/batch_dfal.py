"""DFAL for batches: images near the decision boundary that are not near-copies of each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from dfal.attacks import DeepFool
from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.pool import Pool
from dfal.protocols import Attack
from dfal.query import Query
from dfal.strategies.base import all_features, check_candidates, k_means, seed_from
from dfal.strategies.dfal import DFAL


@dataclass(frozen=True)
class BatchDFAL:
    """Query the image nearest to the boundary in each of k clusters of the nearest candidates.

    The factor · k nearest candidates are clustered by k-means on the network's features, where an
    image weighs 1 / ‖r‖_p, so that there are more clusters close to the boundary (after Zhdanov
    2019, who weighs by the margin and takes what is nearest to the centre). Scores are distances,
    as for `DFAL`. benchmarks/batch_dfal.py compares it with the alternatives.

    Attributes:
        attack: how the distance is measured; DFAL's is `DeepFool(p=2)`.
        candidates: K, how many images of U are considered, sampled at random; None for all.
        twins: whether the network also trains on the adversarial examples.
        factor: how many times k images are clustered; with 1 it is DFAL.

    Source: ours.
    Cost: that of the attack on K images, and k-means on factor · k.
    Memory: CHUNK_IMAGES images, and factor · k twins.
    """

    attack: Attack = DeepFool()
    candidates: int | None = 300
    twins: bool = True
    factor: int = 5

    def __post_init__(self) -> None:
        check_candidates(self.candidates)
        if self.factor < 1:
            raise DfalError(f"factor = {self.factor} must be 1 or more")

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        count = self.factor * k
        if self.candidates is not None:
            count = min(count, max(self.candidates, k))
        near = DFAL(self.attack, self.candidates, self.twins)(model, pool, count, rng)
        if len(near.indices) <= k:
            return near
        weights = 1 / near.scores.clamp(min=1e-12)  # 0 for what is infinitely far
        features = all_features(model, pool, near.indices)
        clusters = k_means(features, k, seed_from(rng), weights if bool(weights.any()) else None)
        return near.only(round_robin(clusters, k))


BATCH_DFAL_NO_TWINS = BatchDFAL(twins=False)


def round_robin(group: Int64[Tensor, "n"], k: int) -> Int64[Tensor, "k"]:
    """Return the first row of each group, then the second of each, and so on, up to k rows."""
    turn = torch.tensor([int((group[:row] == group[row]).sum()) for row in range(len(group))])
    return turn.sort(stable=True).indices[:k]
