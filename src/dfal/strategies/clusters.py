"""Strategies on clusters: TypiClust for the first labels, Cluster-Margin for large batches.

Source: Hacohen, Dekel & Weinshall 2022; Citovsky et al. 2021.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.fields import added
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import (
    Choice,
    all_features,
    all_logits,
    check_space,
    embed,
    k_means,
    seed_from,
    top_k,
)
from dfal.strategies.looks import look_logits
from dfal.strategies.scores import margin
from dfal.strategies.selection import DISTANCE_ROWS, squared_distances

MOST_DISTANCES = 1 << 24
"""Distances between the rows of a cluster that are in memory at a time."""


@dataclass(frozen=True)
class TypiClust(Choice):
    """Query the most typical image of each of the largest clusters without a labelled image.

    Labelled images and candidates are clustered by k-means into |L| + k clusters; typical is the
    image with the smallest mean distance to its nearest neighbours in the cluster. Scores are the
    typicality, one over that distance. Made for the first labels, when a network knows nothing;
    needs a space where similar images are near each other.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        space: "pixels", their principal "components", "features" of the network, or a FILE.npy with
            a row for each image (a self-supervised embedding).
        neighbours: how many nearest neighbours count; 20 in the paper.
        clusters: at most that many clusters; 500 in the paper's code.

    Source: Hacohen, Dekel & Weinshall 2022.
    Cost: k-means on K + |L| rows.
    Memory: the rows, those of a cluster once more, and MOST_DISTANCES distances.
    """

    space: str = "pixels"
    neighbours: int = 20
    clusters: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if self.neighbours < 1 or self.clusters < 1:
            raise DfalError(
                f"neighbours = {self.neighbours} and clusters = {self.clusters} must be 1 or more"
            )

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows = embed(model, pool, torch.cat([candidates, pool.labelled]), self.space)
        count = min(len(pool.labelled) + k, self.clusters, len(rows))
        cluster = k_means(rows, count, seed_from(rng))
        order, typicalities = most_typical(rows, len(candidates), cluster, k, self.neighbours)
        return Query(candidates[order], typicalities)


def most_typical(
    rows: Float[Tensor, "n d"],
    candidates: int,
    cluster: Int64[Tensor, "n"],
    k: int,
    neighbours: int,
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return the most typical rows of clusters with the fewest labelled or chosen rows.

    Among clusters with equally few, the largest comes first.

    Args:
        rows: candidates first, then the labelled ones.
        candidates: how many of the rows may be chosen.
        cluster: of each row.
        k: how many to choose; all candidates where there are fewer.
        neighbours: how many nearest rows of its cluster a row is compared with.

    Returns:
        The rows, and the typicality of each.
    """
    count = int(cluster.max()) + 1
    size = torch.bincount(cluster, minlength=count)
    covered = torch.bincount(cluster[candidates:], minlength=count)
    left = torch.zeros(len(rows), dtype=torch.bool)
    left[:candidates] = True
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(min(k, candidates)):
        available = torch.bincount(cluster[left], minlength=count) > 0
        order = np.lexsort((-size.numpy(), covered.numpy(), ~available.numpy()))
        members = ((cluster == int(order[0])) & left).nonzero().squeeze(1)
        typicality = _typicality(rows[members], neighbours)
        best = int(typicality.argmax())
        chosen.append(int(members[best]))
        scores.append(float(typicality[best]))
        left[chosen[-1]] = False
        covered[order[0]] += 1
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(scores)


def _typicality(rows: Float[Tensor, "n d"], neighbours: int) -> Float[Tensor, "n"]:
    """Return one over each row's mean distance to its nearest others; 1 where there are none."""
    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return torch.ones(len(rows))
    at_once = max(1, min(DISTANCE_ROWS, MOST_DISTANCES // len(rows)))
    means = []
    for start in range(0, len(rows), at_once):
        squared = squared_distances(rows[start : start + at_once], rows)
        squared.diagonal(start).fill_(torch.inf)  # a row is no neighbour of its own
        means.append(squared.topk(count, largest=False).values.sqrt().mean(1))
    return 1 / (torch.cat(means) + 1e-5)


@dataclass(frozen=True)
class ClusterMargin(Choice):
    """Query images with small margins, drawn from clusters in turn.

    The `factor` · k smallest margins are clustered by average linkage in the network's features,
    and one image after another is drawn from each cluster in turn, the smallest cluster first.
    Scores are the margins, and what is drawn comes in their order, so that the first few of many
    images are those of small margins and not those of small clusters. The paper clusters the whole
    pool once, at a distance it does not give, and keeps the clusters; here k clusters are formed of
    the images at hand in every round, so that nothing is remembered between rounds.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        factor: how many times k images are clustered; 10 in the paper.
        looks: looks at each image over which its class probabilities are averaged; the first is the
            image itself, as in the paper, and the others are changed at random.

    Source: Citovsky et al. 2021.
    Cost: one forward pass a candidate and look, and average linkage of factor · k rows.
    Memory: (factor · k)² distances, 8 bytes each.
    """

    factor: int = 10
    looks: int = added(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor < 1 or self.looks < 1:
            raise DfalError(f"factor = {self.factor} and looks = {self.looks} must be 1 or more")

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        logits = (
            all_logits(model, pool, candidates)
            if self.looks == 1
            else look_logits(model, pool, candidates, self.looks, rng)
        )
        smallest = top_k(candidates, margin(logits), self.factor * k, largest=False)
        cluster = _average_linkage(all_features(model, pool, smallest.indices), k)
        order = _draw_in_turn(cluster, k, rng).sort().values  # as `smallest` is: by margin
        return Query(smallest.indices[order], smallest.scores[order])


def _average_linkage(rows: Float[Tensor, "n d"], count: int) -> NDArray[np.int64]:
    """Return the cluster of each row in a tree that is cut into at most `count` clusters."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    tree = linkage(rows.double().numpy(), method="average")
    return np.asarray(fcluster(tree, count, criterion="maxclust"), dtype=np.int64)


def _draw_in_turn(cluster: NDArray[np.int64], k: int, rng: torch.Generator) -> Int64[Tensor, "k"]:
    """Draw k rows at random from each cluster in turn, the smallest first, until none is left."""
    members = [np.flatnonzero(cluster == label) for label in np.unique(cluster)]
    members.sort(key=len)
    shuffled = [rows[torch.randperm(len(rows), generator=rng).numpy()] for rows in members]
    turns = [
        int(rows[turn]) for turn in range(len(cluster)) for rows in shuffled if turn < len(rows)
    ]
    return torch.tensor(turns[:k], dtype=torch.int64)
