"""Strategies on clusters: TypiClust for the first labels (Hacohen, Dekel & Weinshall 2022),
Cluster-Margin for large batches (Citovsky et al. 2021)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from dfal.errors import DfalError
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
from dfal.strategies.scores import margin
from dfal.strategies.selection import ROWS, squared_distances


@dataclass(frozen=True)
class TypiClust(Choice):
    """Asks about the most typical image of each of the largest clusters in which nothing is
    labelled yet.

    Labelled images and candidates are clustered by k-means into |L| + k clusters; typical is the
    image with the smallest mean distance to its nearest neighbours in the cluster. Scores are the
    typicality, one over that distance. Made for the first few labels, when a network knows nothing;
    needs a space where near means alike.

    Attributes:
        space: "pixels", "features" of the network, or a FILE.npy with a row for each image (a
        self-supervised embedding).
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        neighbours: how many nearest neighbours count; 20 in the paper.
        clusters: at most so many; 500 in the paper's code.

    Cost: k-means on K + |L| rows. Memory: the rows, and ROWS distances for each image of a cluster.
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
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows = embed(model, pool, torch.cat([drawn, pool.labelled]), self.space)
        wanted = min(len(pool.labelled) + k, self.clusters, len(rows))
        order, typicalities = typical(
            rows, len(drawn), k_means(rows, wanted, seed_from(rng)), k, self.neighbours
        )
        return Query(drawn[order], typicalities)


def typical(
    rows: Float[Tensor, "n d"],
    candidates: int,
    cluster: Int64[Tensor, "n"],
    k: int,
    neighbours: int,
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Typical rows of clusters: first of those with the fewest labelled or chosen rows, among them
    of the largest.

    Args:
        rows: candidates first, then the labelled ones.
        candidates: how many of the rows may be chosen.
        cluster: of each row.
        k: how many to choose; all candidates where there are fewer.
        neighbours: how many nearest rows of its cluster a row is compared with.
    """
    count = int(cluster.max()) + 1
    size = torch.bincount(cluster, minlength=count)
    known = torch.bincount(cluster[candidates:], minlength=count)
    left = torch.zeros(len(rows), dtype=torch.bool)
    left[:candidates] = True
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(min(k, candidates)):
        free = torch.bincount(cluster[left], minlength=count) > 0
        order = np.lexsort((-size.numpy(), known.numpy(), ~free.numpy()))
        members = ((cluster == int(order[0])) & left).nonzero().squeeze(1)
        typicality = _typicality(rows[members], neighbours)
        new = int(typicality.argmax())
        chosen.append(int(members[new]))
        scores.append(float(typicality[new]))
        left[chosen[-1]] = False
        known[order[0]] += 1
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(scores)


def _typicality(rows: Float[Tensor, "n d"], neighbours: int) -> Float[Tensor, "n"]:
    """One over the mean distance to the nearest others; the same for all where there are none."""
    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return torch.ones(len(rows))
    means = []
    for start in range(0, len(rows), ROWS):
        part = squared_distances(rows[start : start + ROWS], rows)
        part[torch.arange(len(part)), torch.arange(start, start + len(part))] = (
            torch.inf
        )  # not to itself
        means.append(part.topk(count, largest=False).values.sqrt().mean(1))
    return 1 / (torch.cat(means) + 1e-5)


@dataclass(frozen=True)
class ClusterMargin(Choice):
    """Asks about images with small margins from all over: the `factor` · k smallest margins are
    clustered by average linkage in the network's features, and one image after another is drawn
    from each cluster in turn, the smallest first.

    Scores are the margins. The paper clusters the whole pool once, at a distance it does not give,
    and keeps the clusters; here k clusters are made of the images at hand in every round, so that
    nothing is remembered between them.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        factor: how many times k images are clustered; 10 in the paper.

    Cost: one forward pass a candidate, and (factor · k)² distances. Memory: those distances, 8
    bytes each.
    """

    factor: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor < 1:
            raise DfalError(f"factor = {self.factor} must be 1 or more")

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        smallest = top_k(
            drawn, margin(all_logits(model, pool, drawn)), self.factor * k, largest=False
        )
        order = _in_turn(_linked(all_features(model, pool, smallest.indices), k), k, rng)
        return Query(smallest.indices[order], smallest.scores[order])


def _linked(rows: Float[Tensor, "n d"], count: int) -> NDArray[np.int64]:
    """The cluster of each row, cut so that there are at most `count` of them."""
    from scipy.cluster.hierarchy import (
        fcluster,
        linkage,
    )

    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    tree = linkage(rows.double().numpy(), method="average")
    return np.asarray(fcluster(tree, count, criterion="maxclust"), dtype=np.int64)


def _in_turn(cluster: NDArray[np.int64], k: int, rng: torch.Generator) -> Int64[Tensor, "k"]:
    """k rows, drawn at random from each cluster in turn, the smallest cluster first, until none is
    left."""
    members = [np.flatnonzero(cluster == one) for one in np.unique(cluster)]
    members.sort(key=len)
    shuffled = [rows[torch.randperm(len(rows), generator=rng).numpy()] for rows in members]
    turns = [
        int(rows[turn]) for turn in range(len(cluster)) for rows in shuffled if turn < len(rows)
    ]
    return torch.tensor(turns[:k], dtype=torch.int64)
