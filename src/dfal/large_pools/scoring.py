"""What is computed of each block: the best images of a ranking, or the features of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from dfal.attacks import DeepFool
from dfal.attacks.deepfool import KNearestLimit
from dfal.errors import DfalError
from dfal.large_pools.best import Best, tie_breaks
from dfal.large_pools.blocks import PoolBlocks
from dfal.models.weights import load
from dfal.nn.features import affine_last_linear
from dfal.nn.passes import image_chunks
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.seeding import generator
from dfal.strategies import (
    BADGE,
    DFAL,
    ClusterMargin,
    CoreSet,
    FewLabels,
    MaxHerding,
    ProbCover,
    Random,
    TypiClust,
    UHerding,
    name_of,
)
from dfal.strategies.base import Ranking

SLACK = 1.05
"""How far beyond the k-th distance images are kept until distances are measured anew."""
CHOOSING = (BADGE, ClusterMargin, CoreSet, FewLabels, MaxHerding, ProbCover, TypiClust, UHerding)
"""Strategies that choose a set by the features and logits of all images."""


@dataclass(frozen=True)
class Job:
    """What is computed, the same for all blocks; it is sent to workers.

    Attributes:
        blocks: of the pool.
        model: the file of the network.
        network: the `package.module:function` that may be imported for it.
        strategy: the query strategy.
        k: how many images to select.
        seed: of all that is random.
        round: of active learning.
        excluded: numbers of images that are not selected, ascending.
        device: where the network runs.

    Raises:
        DfalError: for a strategy that neither ranks images nor chooses them by their features.
    """

    blocks: PoolBlocks
    model: Path
    network: str | None
    strategy: Strategy
    k: int
    seed: int
    round: int
    excluded: Int64[np.ndarray, "x"]
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (self.ranks or isinstance(self.strategy, CHOOSING)):
            raise DfalError(
                f"{name_of(self.strategy)} cannot select from a pool that is read in parts: take a"
                " strategy that ranks each image, or one of"
                f" {', '.join(kind.__name__ for kind in CHOOSING)}"
            )

    @property
    def ranks(self) -> bool:
        """Return whether the strategy ranks each image on its own."""
        return isinstance(self.strategy, Ranking | Random) or self._deepfool is not None

    @property
    def _deepfool(self) -> DeepFool | None:
        """Return the attack of a strategy that ranks by distance; None for any other strategy."""
        match self.strategy:
            case DFAL(attack=DeepFool() as attack):
                return attack
        return None

    @cached_property
    def net(self) -> nn.Module:
        """Load the network."""
        return load(self.model, self.network).network.to(self.device)

    def best(self, block: int, limit: float) -> Best:
        """Return the best images of a block.

        Args:
            block: its number.
            limit: a distance from which on images need not be measured; for DFAL alone.

        Raises:
            DfalError: for a score that is NaN.
        """
        indices = np.setdiff1d(self.blocks.indices(block), self.excluded, assume_unique=True)
        if not len(indices):
            return Best.none()
        ties = tie_breaks(self.seed, self.round, indices)
        if isinstance(self.strategy, Random):
            scores = np.zeros(len(indices))
        else:
            scores = self._scores(indices, block, limit).double().numpy()
        if np.isnan(scores).any():
            raise DfalError(
                f"{name_of(self.strategy)} gives image {indices[np.isnan(scores)][0]} the score"
                " NaN: repair the strategy or the model"
            )
        return Best.none().merged(Best(indices, scores, ties), self.kept)

    @property
    def kept(self) -> int:
        """Return how many images of a part are kept: for DFAL more than k, see `remeasured`."""
        return 2 * self.k if self._deepfool else self.k

    def _scores(
        self, indices: Int64[np.ndarray, "n"], block: int, limit: float
    ) -> Float[Tensor, "n"]:
        """Return the scores of images of a block, the smallest for the most wanted."""
        if self._deepfool:
            return self._distances(self._deepfool, indices, limit)
        ranking = cast("Ranking", self.strategy)
        rng = generator(self.seed, self.round, f"select/{block}")
        pool = Pool.new(self.blocks.read(indices), {})
        scores = ranking.scores(self.net, pool, torch.arange(len(indices)), rng)
        return -scores if ranking.largest else scores

    def _distances(
        self, attack: DeepFool, indices: Int64[np.ndarray, "n"], limit: float
    ) -> Float[Tensor, "n"]:
        """Return distances to the decision boundary; inf for images certainly beyond the limit."""
        images = self.blocks.read(indices).take(torch.arange(len(indices)), self.device)
        found = attack.nearest(self.net, images, SharedLimit(self.k, limit))
        return found.distance.where(found.fooled, torch.inf).cpu()

    def remeasured(self, best: Best) -> Best:
        """Return the k best images, where DFAL's distances are measured anew, each on its own.

        Which images are measured together depends on the limit, and with it how distances are
        rounded. So those a little beyond the k-th are kept too, and measured without the others.
        """
        if self._deepfool is None or not len(best.scores):
            return Best.none().merged(best, self.k)
        near = best.within(float(best.scores[: self.k][-1]) * SLACK)
        scores = [
            float(self._distances(self._deepfool, np.array([index]), torch.inf)[0])
            for index in near.indices
        ]
        return Best.none().merged(Best(near.indices, np.array(scores), near.ties), self.k)

    def features(self, block: int) -> Float32[np.ndarray, "n d"]:
        """Return the inputs of the network's last layer, for each image of a block.

        Raises:
            DfalError: where logits are not the output of a last linear layer.
        """
        indices = self.blocks.indices(block)
        passes = image_chunks(self.blocks.read(indices), torch.arange(len(indices)), self.device)
        rows = [affine_last_linear(self.net, images).features.float().cpu() for _, images in passes]
        return torch.cat(rows).numpy()

    def head(self) -> nn.Module:
        """Return the network's last layer, which makes logits of features."""
        image = self.blocks.read(np.zeros(1, np.int64)).take(torch.zeros(1, dtype=torch.int64))
        return nn.Sequential(affine_last_linear(self.net, image.to(self.device)).layer).cpu()


class SharedLimit(KNearestLimit):
    """The limit of early termination, where other workers have found near images too.

    Args:
        k: how many images are wanted.
        shared: the k-th smallest distance that others found; it may lag.
    """

    def __init__(self, k: int, shared: float):
        super().__init__(k, exact=True)
        self._shared = shared
        self.distance = shared * SLACK

    def add(self, distances: Float[Tensor, "m"]) -> None:
        """Take distances into account."""
        self.distance = torch.inf
        super().add(distances)
        self.distance = min(self.distance, self._shared) * SLACK


def run_part(
    job: Job, blocks: Sequence[int], limit: float
) -> Best | list[Float32[np.ndarray, "n d"]]:
    """Return what a worker computes of some blocks: their best images, or the features of each."""
    if not job.ranks:
        return [job.features(block) for block in blocks]
    best = Best.none()
    for block in blocks:
        best = best.merged(job.best(block, limit), job.kept)
        if len(best.scores) >= job.k:
            limit = min(limit, float(best.scores[job.k - 1]))
    return best
