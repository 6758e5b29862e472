"""First labels by clusters, then coverage, more and more of uncertain images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.pool import Pool
from dfal.query import DECLINED, Query
from dfal.strategies.base import Choice, all_logits, check_space, embed, k_means
from dfal.strategies.coverage import gaussian
from dfal.strategies.scores import margin
from dfal.strategies.selection import cover, squared_distances

CLUSTERINGS = 3
"""Runs of k-means, of which the tightest is taken."""


@dataclass(frozen=True)
class FewLabels(Choice):
    """Query one image of each cluster, then those that cover most of what is uncertain.

    The images are clustered by k-means into as many clusters as there are classes, and the image
    nearest to the centre is queried of each cluster without a label, the largest cluster first.
    After that it is generalised coverage under a Gaussian kernel where each candidate x counts with
    u(x)^e: u is one minus the margin, and e = min(1, |L| / (`labels` · classes)) grows with the
    labels. So few labels cover the pool, and many cover what is uncertain, without a switch. Every
    prefix of a query is what a smaller query returns, of the same candidates. Scores are how much
    each image adds to the coverage; of the first images, the size of their cluster.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        space: "pixels", their principal "components", "features" of the network, or a FILE.npy with
            a row for each image; rows are scaled to length 1.
        sigma: σ of the kernel, in a space where no two rows are further apart than 2.
        labels: labels a class from which uncertainty counts in full.

    Source: ours, after Bae et al. 2024 and 2025.
    Cost: one forward pass a candidate, and K² distances; k-means on K rows for the first labels.
    Memory: the rows, and DISTANCE_ROWS² / 4 distances.
    """

    candidates: int | None = 3000
    space: str = "pixels"
    sigma: float = 0.5
    labels: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if not self.sigma > 0:
            raise DfalError(f"sigma = {self.sigma} covers nothing: give more than 0")
        if not self.labels > 0:
            raise DfalError(f"labels = {self.labels} must be more than 0")

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        logits = all_logits(model, pool, candidates)
        classes = logits.shape[1]
        first, sizes = self._first(model, pool, classes, k)
        k -= len(first)
        others = candidates[~torch.isin(candidates, first)]
        if not k or not len(others):
            return Query(first, sizes)
        rows = embed(model, pool, torch.cat([others, pool.labelled, first]), self.space)
        uncertainty = 1 - margin(logits[~torch.isin(candidates, first)])
        exponent = min(1.0, (len(pool.labelled) + len(first)) / (self.labels * classes))
        order, added = cover(
            rows[: len(others)],
            rows[len(others) :],
            min(k, len(others)),
            kernel=lambda squared: gaussian(squared, self.sigma),
            weights=uncertainty.clamp(min=1e-6) ** exponent,
        )
        return Query(torch.cat([first, others[order]]), torch.cat([sizes, added]))

    def _first(
        self, model: nn.Module, pool: Pool, classes: int, k: int
    ) -> tuple[Int64[Tensor, "m"], Float[Tensor, "m"]]:
        """Return an image of each of the largest clusters without a label, and their sizes.

        Labels change neither the images that are clustered nor the clusters, so that one question
        after another covers the same clusters as all at once.
        """
        nothing = torch.empty(0, dtype=torch.int64), torch.empty(0)
        labelled = pool.labelled
        if len(labelled) >= 2 * classes:  # some cluster of one class may stay without: no matter
            return nothing
        images = (pool.labels != DECLINED).nonzero().squeeze(1)
        step = 1 if self.candidates is None else -(-len(images) // max(self.candidates, k))
        images = images[::step]
        rows = embed(model, pool, torch.cat([images, labelled]), self.space)
        rows, labelled_rows = rows[: len(images)], rows[len(images) :]
        centres, size = tightest_clusters(rows, min(classes, len(rows)))
        if len(labelled):
            taken = squared_distances(labelled_rows, centres).argmin(1)
            size[taken] = 0
        distance = squared_distances(rows, centres)
        distance[pool.labels[images] >= 0] = torch.inf
        order = size.sort(descending=True, stable=True).indices[:k]
        order = order[size[order] > 0]
        nearest = distance[:, order].argmin(0)
        keep = distance[nearest, order].isfinite()
        first, sizes = images[nearest[keep]], size[order[keep]].to(rows.dtype)
        # Two clusters of identical images have the same nearest one.
        once = torch.tensor(
            [bool((first[:place] != image).all()) for place, image in enumerate(first)],
            dtype=torch.bool,
        )
        return first[once], sizes[once]


def tightest_clusters(
    rows: Float[Tensor, "n d"], count: int
) -> tuple[Float[Tensor, "c d"], Int64[Tensor, "c"]]:
    """Return the centres of clusters by k-means, and how many rows each has.

    Of several runs with fixed seeds it is the one with the smallest sum of squared distances.
    """
    best = torch.inf
    for seed in range(CLUSTERINGS):
        cluster = k_means(rows, count, seed)
        sizes = torch.bincount(cluster, minlength=count)
        centres = rows.new_zeros(count, rows.shape[1]).index_add_(0, cluster, rows)
        centres /= sizes.clamp(min=1).unsqueeze(1)
        spread = float((rows - centres[cluster]).square().sum())
        if spread < best:
            best, found = spread, (centres, sizes)
    return found
