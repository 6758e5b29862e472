"""CORE-SET (Sener & Savarese 2018): every image has a labelled one near it in feature space."""

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
from dfal.nn.features import features, last_layer_inputs
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, all_features, all_logits
from dfal.strategies.selection import (
    DISTANCE_ROWS,
    farthest_first,
    squared_distances,
    to_nearest,
)

MILP_INFEASIBLE = 2
"""SciPy's status of a mixed integer programme without a solution."""


@dataclass(frozen=True)
class CoreSet(Choice):
    """Query the image farthest from all that are labelled or queried, one after another.

    This is k-centre greedy, algorithm 1 of the paper: at most twice the smallest radius possible.
    Scores are how far each image was when it was chosen. Distances are Euclidean, between inputs of
    the last linear layer, as in the paper and in all results of CORE-SET here, also where the
    network has its features elsewhere.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        softmax: whether distances are between class probabilities, as in the code that the DFAL
            paper's authors released.
        named: whether distances are between the network's `features()`, which are elsewhere in
            LeNet5.

    Source: Sener & Savarese 2018.
    Cost: one forward pass for each candidate and labelled image, and K · (|L| + k) distances at
    most.
    Memory: the features.
    """

    softmax: bool = added(False)
    named: bool = added(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.softmax and self.named:
            raise DfalError(
                "softmax and named are two places of one distance: leave out one of them"
            )

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows, centres = _embed_with_labelled(
            model, pool, candidates, softmax=self.softmax, named=self.named
        )
        order, radii = farthest_first(rows, centres, k)
        return Query(candidates[order], radii)


CORE_SET_RELEASED = CoreSet(softmax=True)


@dataclass(frozen=True)
class RobustCoreSet(Choice):
    """Query the images that leave the smallest radius around all candidates but Ξ outliers.

    Within the radius every other candidate has a labelled or queried image (section 4.2 of the
    paper). This is a mixed integer programme, to which k-centre greedy is the initial solution. All
    scores are that radius. `bound` is what is proved: no choice has a smaller radius than `bound`,
    so that the choice is optimal where both are equal. Images that the optimum does not need are
    chosen farthest first.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all, as in
            the paper.
        outliers: Ξ, how many candidates may be left out.
        seconds: after that long the best radius so far is taken. How far the search came by then
            depends on the machine; a study to be repeated to the bit must not reach it.

    Source: Sener & Savarese 2018.
    Cost: that of `CoreSet`, and the solver's, which may grow exponentially.
    Memory: some six times K · K distances of 4 bytes.
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
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        rows, centres = _embed_with_labelled(model, pool, candidates)
        centre = k_centre(rows, centres, k, outliers=self.outliers, seconds=self.seconds)
        radii = torch.full((len(centre.rows),), centre.radius)
        return Query(candidates[centre.rows], radii, bound=centre.bound)


def _embed_with_labelled(
    model: nn.Module,
    pool: Pool,
    indices: Int64[Tensor, "n"],
    *,
    softmax: bool = False,
    named: bool = False,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return rows for the images at `indices`, and for the labelled images.

    They are probabilities, features, or else inputs of the last linear layer.
    """
    both = torch.cat([indices, pool.labelled])
    if softmax:
        rows = all_logits(model, pool, both).softmax(1)
    else:
        rows = all_features(model, pool, both, features if named else last_layer_inputs)
    return rows[: len(indices)], rows[len(indices) :]


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
    """Choose k rows that leave the smallest radius around rows and centres.

    All rows but `outliers` lie within the radius of a chosen row or of a centre. It is one of the
    distances that occur, so a binary search over them asks the solver of each whether k rows
    suffice.

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
    problem = _CoverProblem.of(rows, centres, k, outliers)
    best = farthest_first(rows, centres, k)[0].numpy()
    radii = problem.possible_radii(problem.radius(best))
    low, high = 0, len(radii) - 1
    try:
        while low < high:
            middle = (low + high) // 2
            chosen = problem.solve(float(radii[middle]), seconds=deadline - time.monotonic())
            if chosen is None:
                low = middle + 1
            else:
                best, high = chosen, int(np.searchsorted(radii, problem.radius(chosen)))
    except TimeoutError:
        pass  # `bound` says what was proved by now
    return KCentre(
        _fill_up(torch.from_numpy(best), rows, centres, k), float(radii[high]), float(radii[low])
    )


def _fill_up(
    chosen: Int64[Tensor, "m"], rows: Float[Tensor, "n d"], centres: Float[Tensor, "c d"], k: int
) -> Int64[Tensor, "k"]:
    """Add rows to a choice of fewer than k, the farthest first."""
    if len(chosen) == k:
        return chosen
    left = torch.ones(len(rows), dtype=torch.bool).index_fill(0, chosen, False)
    left = left.nonzero().squeeze(1)
    more, _ = farthest_first(rows[left], torch.cat([centres, rows[chosen]]), k - len(chosen))
    return torch.cat([chosen, left[more]])


@dataclass(frozen=True)
class _CoverProblem:
    """The problem which k rows cover all rows but some outliers within a radius.

    Attributes:
        between: distances between rows, of shape (n, n).
        to_centre: distance of each row to its nearest centre, of shape (n,).
        k: how many rows may be chosen.
        outliers: how many rows need not be covered.
    """

    between: NDArray[np.floating[Any]]
    to_centre: NDArray[np.floating[Any]]
    k: int
    outliers: int

    @classmethod
    def of(
        cls, rows: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int, outliers: int
    ) -> "_CoverProblem":
        """Return the problem of these rows and centres."""
        blocks = [squared_distances(block, rows) for block in rows.split(DISTANCE_ROWS)]
        between = torch.cat(blocks).sqrt_().fill_diagonal_(0).numpy()
        return cls(between, to_nearest(rows, centres).sqrt_().numpy(), k, outliers)

    def radius(self, chosen: NDArray[np.int64]) -> float:
        """Return the radius that a choice of rows leaves."""
        nearest = np.minimum(self.to_centre, self.between[:, chosen].min(axis=1))
        covered = len(nearest) - self.outliers
        return float(np.partition(nearest, covered - 1)[covered - 1]) if covered > 0 else 0.0

    def possible_radii(self, greedy: float) -> NDArray[np.floating[Any]]:
        """Return the distances that the smallest radius may be, ascending, up to that of greedy."""
        radii = np.concatenate([d[d <= greedy] for d in (self.between, self.to_centre)])
        # Without outliers no choice has less than half of greedy's radius.
        return np.unique(radii if self.outliers else radii[radii >= 0.4999 * greedy])

    def solve(self, radius: float, *, seconds: float) -> NDArray[np.int64] | None:
        """Return at most k rows that leave at most this radius; None where there are none.

        Raises:
            TimeoutError: where neither is known after that many seconds.
        """
        uncovered = np.flatnonzero(self.to_centre > radius)
        if len(uncovered) <= self.outliers:
            return np.zeros(1, dtype=np.int64)
        near = self.between[uncovered] <= radius
        if not self.outliers:
            near = near[~_superset_of_another(near)]  # covered wherever that other row is
        # A row that covers no more than another row does is not needed.
        useful = np.flatnonzero(~_superset_of_another(~near.T))
        chosen = _set_cover(near[:, useful], self.k, self.outliers, seconds)
        return None if chosen is None else useful[chosen]


def _set_cover(
    near: NDArray[np.bool_], k: int, outliers: int, seconds: float
) -> NDArray[np.int64] | None:
    """Return at most k columns that cover all rows but some outliers; None where there are none.

    With u_j for column j chosen and ξ_i for row i left out, every row needs Σ_j near_ij u_j + ξ_i ≥
    1, while Σ u ≤ k and Σ ξ ≤ outliers.

    Args:
        near: whether a column covers a row, of shape (rows, columns).
        k: how many columns may be chosen.
        outliers: how many rows may be left out.
        seconds: how long the solver may take.

    Raises:
        TimeoutError: where neither is known by then.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, hstack, identity

    cover = csr_array(near)
    rows, columns = near.shape
    xi = rows if outliers else 0
    is_column = np.concatenate([np.ones(columns), np.zeros(xi)])
    constraints = [
        LinearConstraint(hstack([cover, identity(xi)]) if xi else cover, lb=1),
        LinearConstraint(is_column, ub=k),
    ]
    if xi:
        constraints.append(LinearConstraint(1 - is_column, ub=outliers))
    if seconds <= 0:
        raise TimeoutError
    solution = milp(
        np.zeros_like(is_column),
        constraints=constraints,
        integrality=1,
        bounds=Bounds(0, 1),
        options={"time_limit": seconds},
    )
    if solution.status == MILP_INFEASIBLE:
        return None
    if solution.x is None:
        raise TimeoutError
    return np.flatnonzero(solution.x[:columns] > 0.5)


def _superset_of_another(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows, as sets of columns, contain another row; of equal rows all but the first.

    Args:
        sets: whether a row holds a column, of shape (rows, columns).
    """
    members = sets.astype(np.float32)
    contains = members @ members.T == members.sum(1)  # [i, j]: row i contains row j
    equal = contains & contains.T
    superset: NDArray[np.bool_] = (contains & ~np.triu(equal)).any(axis=1)
    return superset
