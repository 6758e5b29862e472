"""CORE-SET (Sener & Savarese 2018): ask so that every image has a labelled one near it in the
network's features."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.fields import added
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, all_features, all_logits
from dfal.strategies.selection import ROWS, farthest_first, squared_distances, to_nearest


@dataclass(frozen=True)
class CoreSet(Choice):
    """Asks about the image farthest from all that are labelled, then about the farthest from those
    and from it, and so on (algorithm 1 of the paper, k-centre greedy): at most twice the smallest
    radius possible.

    Scores are how far each image was when it was chosen, in the Euclidean distance of `features()`.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
        softmax: whether distances are between class probabilities, as in the code that the DFAL
        paper's authors released.

    Cost: one forward pass for each candidate and labelled image, and K · (|L| + k) distances at
    most. Memory: the features.
    """

    softmax: bool = added(False)

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows, centres = _places(model, pool, drawn, softmax=self.softmax)
        order, radii = farthest_first(rows, centres, k)
        return Query(drawn[order], radii)


CORE_SET_RELEASED = CoreSet(softmax=True)


@dataclass(frozen=True)
class RobustCoreSet(Choice):
    """Asks for the smallest radius within which all candidates but Ξ outliers have a labelled or
    asked image (section 4.2 of the paper): a mixed integer programme, to which k-centre greedy is
    the start.

    All scores are that radius. `bound` is what is proved: no choice has a smaller radius than
    `bound`, so that the choice is optimal where both are equal. The programme is written as a set
    cover, one variable a candidate and one row a candidate that no labelled image covers, in a
    binary search over the distances that occur. Images that the optimum does not need are chosen
    farthest first.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all, as in the
        paper.
        outliers: Ξ, how many candidates may be left out.
        seconds: after so long the best radius that is certified is taken. How far the search came
            by then depends on the machine; a study to be repeated to the bit must not meet it.

    Cost: that of `CoreSet`, and the solver's, which may grow exponentially. Memory: some six times
    K · K distances of 4 bytes.
    """

    candidates: int | None = 1000
    outliers: int = 0
    seconds: float = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outliers < 0 or not self.seconds > 0:
            raise DfalError(
                f"outliers = {self.outliers} must be 0 or more and seconds = {self.seconds} more"
                " than 0"
            )

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        rows, centres = _places(model, pool, drawn)
        found = k_centre(rows, centres, k, outliers=self.outliers, seconds=self.seconds)
        return Query(
            drawn[found.rows], torch.full((len(found.rows),), found.radius), bound=found.bound
        )


def _places(
    model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], *, softmax: bool = False
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Features (or class probabilities) of the images at `indices`, and of the labelled ones."""
    every = torch.cat([indices, pool.labelled])
    both = (
        all_logits(model, pool, every).softmax(1) if softmax else all_features(model, pool, every)
    )
    return both[: len(indices)], both[len(indices) :]


@dataclass(frozen=True)
class KCentre:
    """A choice of rows, the radius it leaves, and the radius below which no choice can come."""

    rows: Int64[Tensor, "k"]
    radius: float
    bound: float


def k_centre(
    rows: Float[Tensor, "n d"],
    centres: Float[Tensor, "m d"],
    k: int,
    *,
    outliers: int = 0,
    seconds: float = 60,
) -> KCentre:
    """k rows such that all rows but `outliers` lie within the smallest radius of a chosen row or a
    centre.

    Args:
        rows: of which k ≤ n are chosen.
        centres: chosen already.
        k: how many more.
        outliers: Ξ, how many rows need not be covered.
        seconds: when to stop the search, with the best choice and the best bound so far.
    """
    deadline = time.monotonic() + seconds
    if not k:
        return KCentre(torch.empty(0, dtype=torch.int64), 0.0, 0.0)
    mean = torch.cat([rows, centres]).mean(0)  # distances stay as they are, rounding gets less
    rows, centres = rows - mean, centres - mean
    best = farthest_first(rows, centres, k)[0].numpy()
    between = (
        torch.cat([squared_distances(part, rows) for part in rows.split(ROWS)])
        .sqrt_()
        .fill_diagonal_(0)
        .numpy()
    )
    to_centre = to_nearest(rows, centres).sqrt_().numpy()
    # The smallest radius is one of the distances that occur. Without outliers it is at least half
    # of greedy's.
    radius = _radius(between, to_centre, best, outliers)
    occurring = np.concatenate([between[between <= radius], to_centre[to_centre <= radius]])
    occurring = np.unique(occurring if outliers else occurring[occurring >= 0.4999 * radius])
    low, high = 0, len(occurring) - 1
    try:
        while low < high:
            middle = (low + high) // 2
            answer = _within(
                float(occurring[middle]),
                between,
                to_centre,
                k,
                outliers=outliers,
                seconds=deadline - time.monotonic(),
            )
            if answer is None:
                low = middle + 1
            else:
                best, high = answer, _at(occurring, _radius(between, to_centre, answer, outliers))
    except TimeoutError:
        pass  # the answer says what was proved by now
    chosen = torch.from_numpy(best)
    if len(chosen) < k:
        left = (
            torch.ones(len(rows), dtype=torch.bool)
            .index_fill(0, chosen, False)
            .nonzero()
            .squeeze(1)
        )
        more, _ = farthest_first(rows[left], torch.cat([centres, rows[chosen]]), k - len(chosen))
        chosen = torch.cat([chosen, left[more]])
    return KCentre(chosen, float(occurring[high]), float(occurring[low]))


Distances = NDArray[np.floating[Any]]


def _at(occurring: Distances, radius: float) -> int:
    return int(np.searchsorted(occurring, radius))


def _radius(
    between: Distances, to_centre: Distances, chosen: NDArray[np.int64], outliers: int
) -> float:
    """The distance within which all but the `outliers` farthest rows have a centre or a chosen
    row."""
    nearest = np.minimum(to_centre, between[:, chosen].min(axis=1))
    return (
        0.0
        if outliers >= len(nearest)
        else float(np.partition(nearest, len(nearest) - 1 - outliers)[-1 - outliers])
    )


def _within(
    radius: float,
    between: Distances,
    to_centre: Distances,
    k: int,
    *,
    outliers: int,
    seconds: float,
) -> NDArray[np.int64] | None:
    """At most k rows that bring all but `outliers` rows within the radius; None where there are
    none.

    Raises:
        TimeoutError: where neither is known after so many seconds.
    """
    from scipy.optimize import (
        Bounds,
        LinearConstraint,
        milp,
    )
    from scipy.sparse import csr_array, hstack, identity

    open_rows = np.flatnonzero(to_centre > radius)
    if len(open_rows) <= outliers:
        return np.zeros(1, dtype=np.int64)
    near = between[open_rows] <= radius
    if not outliers:
        near = near[~_contain_another(near)]  # covered wherever that other row is
    useful = np.flatnonzero(
        ~_contain_another(~near.T)
    )  # what covers less than another row does is not needed
    near = csr_array(near[:, useful])
    # u_j: row j is chosen; ξ_i: row i is left out. Every open row needs a chosen one near it, or to
    # be left out.
    u, xi = len(useful), near.shape[0] if outliers else 0
    cost = np.concatenate([np.ones(u), np.zeros(xi)])
    rules = [
        LinearConstraint(hstack([near, identity(xi)]) if xi else near, lb=1),
        LinearConstraint(cost, ub=k),
    ]
    if xi:
        rules.append(LinearConstraint(1 - cost, ub=outliers))
    if seconds <= 0:
        raise TimeoutError
    found = milp(
        np.zeros_like(cost),
        constraints=rules,
        integrality=1,
        bounds=Bounds(0, 1),
        options={"time_limit": seconds},
    )
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise TimeoutError
    return useful[np.flatnonzero(found.x[:u] > 0.5)]


def _contain_another(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows, as sets of columns, hold all of another row's; of equal rows all but the
    first."""
    members = sets.astype(np.float32)
    holds = members @ members.T == members.sum(1)  # [i, j]: row i holds all of row j
    equal = holds & holds.T
    contain: NDArray[np.bool_] = (holds & ~np.triu(equal)).any(axis=1)
    return contain


INFEASIBLE = 2
"""SciPy's code for a programme without a solution."""
