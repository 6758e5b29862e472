"""Strategies that cover the pool: ProbCover (Yehuda et al. 2022), MaxHerding (Bae et al. 2024),
UHerding (Bae et al. 2025).

All three add, one by one, the image that most raises Σ_x u(x) max_{x' labelled or asked} κ(x, x')
over the candidates x.
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
from dfal.strategies.selection import ROWS, cover, squared_distances


@dataclass(frozen=True)
class ProbCover(Choice):
    """Asks about the images whose balls of radius δ hold the most candidates that no ball holds
    yet.

    Scores are how many each adds. When all are covered, the rest is chosen at random. Made for the
    first few labels.

    Attributes:
        space: "pixels", "features" of the network, or a FILE.npy with a row for each image; rows
        are scaled to length 1.
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        radius: δ; None for the largest at which `purity` of the balls hold one cluster only, of as
            many k-means clusters as the network has classes (section 3.3 of the paper).
        purity: α, 0.95 in the paper.

    Cost: K² distances at least. Memory: the rows, and ROWS² / 4 distances.
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
            raise DfalError(f"purity = {self.purity} is no fraction: give 0 < purity ≤ 1")

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows, centres = _rows(model, pool, drawn, self.space)
        radius = self.radius
        if radius is None:
            classes = all_logits(model, pool, drawn[:1]).shape[1]
            radius = pure_radius(
                rows, k_means(rows, min(classes, len(rows)), seed_from(rng)), self.purity
            )
        order, added = cover(
            rows, centres, k, kernel=lambda squared: (squared <= radius**2).to(squared.dtype)
        )
        return Query(drawn[order], added)


def pure_radius(rows: Float[Tensor, "n d"], cluster: Tensor, purity: float) -> float:
    """The largest radius at which at least this fraction of the rows has rows of its own cluster
    only in its ball.

    A ball is pure until it meets the nearest row of another cluster: the radius is a quantile of
    those distances.
    """
    nearest = torch.full((len(rows),), torch.inf)
    for part, own, to in zip(
        rows.split(ROWS), cluster.split(ROWS), nearest.split(ROWS), strict=True
    ):
        for others, theirs in zip(rows.split(ROWS // 4), cluster.split(ROWS // 4), strict=True):
            squared = squared_distances(part, others).masked_fill_(
                own.unsqueeze(1) == theirs, torch.inf
            )
            torch.minimum(to, squared.amin(1), out=to)
    ordered = nearest.sort().values.sqrt()
    pure = max(1, math.ceil(round(purity * len(rows), 6)))
    radius = float(ordered[len(rows) - pure])
    # A ball is impure from that distance on. With one cluster alone nothing is impure: half of all
    # that unit rows can be apart.
    return 1.0 if math.isinf(radius) else radius * (1 - 1e-6)


@dataclass(frozen=True)
class MaxHerding(Choice):
    """Asks about the images that most raise the coverage of the candidates, κ(x, x') = exp(−‖x −
    x'‖² / 2σ²).

    Scores are how much each adds, in candidates. The smooth kernel needs no radius to be found.
    Made for the first labels.

    Attributes:
        space: "pixels", "features" of the network, or a FILE.npy with a row for each image; rows
        are scaled to length 1.
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        sigma: σ, in a space where no two rows are further apart than 2.

    Cost: K² distances at least. Memory: the rows, and ROWS² / 4 distances.
    """

    space: str = "pixels"
    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if not self.sigma > 0:
            raise DfalError(f"sigma = {self.sigma} covers nothing: give more than 0")

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows, centres = _rows(model, pool, drawn, self.space)
        order, added = cover(rows, centres, k, kernel=lambda squared: gaussian(squared, self.sigma))
        return Query(drawn[order], added)


@dataclass(frozen=True)
class UHerding(Choice):
    """MaxHerding where each candidate x counts with its uncertainty u(x) = 1 − p(y₁|x) + p(y₂|x),
    one minus the margin: with few labels, when all is uncertain, it covers; with many it asks where
    the network hesitates.

    Scores are how much uncertainty each covers. As in the paper σ follows the labels: it is the
    smallest distance between two labelled images, 1 while there are none. The paper also rescales
    the logits by a temperature, which needs labels of its own; here they are taken as they are.

    Attributes:
        space: "features" of the network, "pixels", or a FILE.npy with a row for each image; rows
        are scaled to length 1.
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        sigma: σ; None to let it follow the labels.

    Cost: one forward pass a candidate, two with space="features"; K² distances at least.
    Memory: the rows, and ROWS² / 4 distances.
    """

    space: str = "features"
    sigma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self.space)
        if self.sigma is not None and not self.sigma > 0:
            raise DfalError(f"sigma = {self.sigma} covers nothing: give more than 0, or None")

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows, centres = _rows(model, pool, drawn, self.space)
        sigma = smallest_distance(centres) if self.sigma is None else self.sigma
        uncertainty = 1 - margin(all_logits(model, pool, drawn))
        order, added = cover(
            rows, centres, k, kernel=lambda squared: gaussian(squared, sigma), weights=uncertainty
        )
        return Query(drawn[order], added)


def gaussian(squared: Tensor, sigma: float) -> Tensor:
    """exp(−‖x − x'‖² / 2σ²)."""
    return (squared / (-2 * sigma**2)).exp_()


def smallest_distance(rows: Float[Tensor, "n d"]) -> float:
    """Between two rows that are not the same; 1 where there are none."""
    least = torch.inf
    for start in range(0, len(rows), ROWS):
        squared = squared_distances(rows[start : start + ROWS], rows)
        squared = squared[squared > 1e-6]  # closer than rounding can tell: the same
        least = min(least, float(squared.min()) if len(squared) else torch.inf)
    return 1.0 if math.isinf(least) else math.sqrt(least)


def _rows(
    model: nn.Module, pool: Pool, chosen: Tensor, space: str
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    both = embed(model, pool, torch.cat([chosen, pool.labelled]), space)
    return both[: len(chosen)], both[len(chosen) :]
