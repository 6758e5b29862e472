"""Strategies that cover the pool: ProbCover, MaxHerding, UHerding.

All three add, one by one, the image that most raises Σ_x u(x) max_{x' labelled or queried} κ(x, x')
over the candidates x.

Source: Yehuda et al. 2022; Bae et al. 2024; Bae et al. 2025.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, all_logits, check_space, embed, k_means, seed_from
from dfal.strategies.scores import margin
from dfal.strategies.selection import DISTANCE_ROWS, cover, squared_distances


@dataclass(frozen=True)
class ProbCover(Choice):
    """Query the images whose balls of radius δ hold the most candidates not yet covered.

    Scores are how many each adds. When all are covered, the rest is sampled at random. Made for the
    first labels.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        space: "pixels", their principal "components", "features" of the network, or a FILE.npy with
            a row for each image; rows are scaled to length 1.
        radius: δ; None for the largest at which `purity` of the balls hold one cluster only, of as
            many k-means clusters as the network has classes (section 3.3 of the paper).
        purity: α, 0.95 in the paper.

    Source: Yehuda et al. 2022.
    Cost: K² distances at least; no forward pass on pixels.
    Memory: the rows, and DISTANCE_ROWS² / 4 distances.
    """

    space: str = "pixels"
    radius: float | None = None
    purity: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if self.radius is not None and not self.radius > 0:
            raise DfalError(f"radius = {self.radius} covers nothing: give more than 0, or None")
        if not 0 < self.purity <= 1:
            raise DfalError(f"purity must be above 0 and at most 1 (got {self.purity})")

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows, centres = _embed_with_labelled(model, pool, candidates, self.space)
        radius = self.radius
        if radius is None:
            classes = all_logits(model, pool, candidates[:1]).shape[1]
            cluster = k_means(rows, min(classes, len(rows)), seed_from(rng))
            radius = pure_radius(rows, cluster, self.purity)
        order, added = cover(
            rows, centres, k, kernel=lambda squared: (squared <= radius**2).to(squared.dtype)
        )
        return Query(candidates[order], added)


def pure_radius(rows: Float[Tensor, "n d"], cluster: Tensor, purity: float) -> float:
    """Return the largest radius at which a fraction of the balls around rows are pure.

    A ball is pure until it meets the nearest row of another cluster: the radius is a quantile of
    those distances.

    Args:
        rows: the centres of the balls.
        cluster: of each row.
        purity: the fraction, 0 < purity ≤ 1.

    Source: Yehuda et al. 2022, section 3.3.
    """
    nearest = torch.full((len(rows),), torch.inf)  # squared distance to another cluster
    for block, own, out in zip(
        *(values.split(DISTANCE_ROWS) for values in (rows, cluster, nearest)), strict=True
    ):
        for others, theirs in zip(
            *(values.split(DISTANCE_ROWS // 4) for values in (rows, cluster)), strict=True
        ):
            squared = squared_distances(block, others)
            squared.masked_fill_(own.unsqueeze(1) == theirs, torch.inf)
            torch.minimum(out, squared.amin(1), out=out)
    ordered = nearest.sort().values.sqrt()
    pure = max(1, math.ceil(round(purity * len(rows), 6)))
    radius = float(ordered[len(rows) - pure])
    # A ball is impure from that distance on. With one cluster alone nothing is impure: half of all
    # that unit rows can be apart.
    return 1.0 if math.isinf(radius) else radius * (1 - 1e-6)


@dataclass(frozen=True)
class MaxHerding(Choice):
    """Query the images that most raise the coverage of the candidates under a Gaussian kernel.

    κ(x, x') = exp(−‖x − x'‖² / 2σ²). Scores are how much each adds, in candidates. The smooth
    kernel needs no radius to be estimated. Made for the first labels.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        space: "pixels", their principal "components", "features" of the network, or a FILE.npy with
            a row for each image; rows are scaled to length 1.
        sigma: σ, in a space where no two rows are further apart than 2.

    Source: Bae et al. 2024.
    Cost: K² distances at least; no forward pass on pixels.
    Memory: the rows, and DISTANCE_ROWS² / 4 distances.
    """

    space: str = "pixels"
    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if not self.sigma > 0:
            raise DfalError(f"sigma = {self.sigma} covers nothing: give more than 0")

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows, centres = _embed_with_labelled(model, pool, candidates, self.space)
        order, added = cover(rows, centres, k, kernel=lambda squared: gaussian(squared, self.sigma))
        return Query(candidates[order], added)


@dataclass(frozen=True)
class UHerding(Choice):
    """Query the images that cover most uncertainty under a Gaussian kernel.

    It is MaxHerding where each candidate x counts with its uncertainty u(x) = 1 − p(y₁|x) +
    p(y₂|x), one minus the margin: with few labels, when all is uncertain, it covers the pool; with
    many it queries uncertain images. Scores are how much uncertainty each covers. As in the paper σ
    follows the labels: it is the smallest distance between two labelled images, 1 while there are
    none. The paper also rescales the logits by a temperature, which needs labels of its own; here
    they are taken as they are.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        space: "features" of the network, "pixels", their principal "components", or a FILE.npy with
            a row for each image; rows are scaled to length 1.
        sigma: σ; None to let it follow the labels.

    Source: Bae et al. 2025.
    Cost: one forward pass a candidate, two with space="features"; K² distances at least.
    Memory: the rows, and DISTANCE_ROWS² / 4 distances.
    """

    space: str = "features"
    sigma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if self.sigma is not None and not self.sigma > 0:
            raise DfalError(f"sigma = {self.sigma} covers nothing: give more than 0, or None")

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows, centres = _embed_with_labelled(model, pool, candidates, self.space)
        sigma = smallest_distance(centres) if self.sigma is None else self.sigma
        uncertainty = 1 - margin(all_logits(model, pool, candidates))
        order, added = cover(
            rows, centres, k, kernel=lambda squared: gaussian(squared, sigma), weights=uncertainty
        )
        return Query(candidates[order], added)


def gaussian(squared: Tensor, sigma: float) -> Tensor:
    """Return the Gaussian kernel exp(−‖x − x'‖² / 2σ²) of squared distances."""
    return (squared / (-2 * sigma**2)).exp_()


def smallest_distance(rows: Float[Tensor, "n d"]) -> float:
    """Return the smallest distance between two different rows; 1 where there are none."""
    smallest = torch.inf
    for start in range(0, len(rows), DISTANCE_ROWS):
        squared = squared_distances(rows[start : start + DISTANCE_ROWS], rows)
        squared = squared[squared > 1e-6]  # closer than rounding can tell: the same
        smallest = min(smallest, float(squared.min()) if len(squared) else torch.inf)
    return 1.0 if math.isinf(smallest) else math.sqrt(smallest)


def _embed_with_labelled(
    model: nn.Module, pool: Pool, indices: Tensor, space: str
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return the rows of the images at `indices`, and those of the labelled images."""
    rows = embed(model, pool, torch.cat([indices, pool.labelled]), space)
    return rows[: len(indices)], rows[len(indices) :]
