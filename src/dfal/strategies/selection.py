"""Choice of rows by the distances between them, as pure functions.

Memory is linear in the rows: there is no N × N matrix.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

DISTANCE_ROWS = 4096
"""Rows whose distances to others are in memory at a time."""

REFRESHED_ROWS = 64
"""Rows whose gains are brought up to date at a time."""


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return ‖a_i − b_j‖² as ‖a‖² + ‖b‖² − 2⟨a, b⟩.

    That is fast, never below 0, and exact to some 1e-6 of the largest ‖a‖² + ‖b‖².
    """
    norms = a.square().sum(1).unsqueeze(1) + b.square().sum(1)
    return torch.addmm(norms, a, b.T, alpha=-2).clamp_(min=0)


def to_nearest(
    rows: Float[Tensor, "n d"],
    centres: Float[Tensor, "m d"],
    shift: Float[Tensor, "d"] | None = None,
) -> Float[Tensor, "n"]:
    """Return the squared distance from each row to its nearest centre; inf where there is none.

    Args:
        rows: n points.
        centres: m points.
        shift: subtracted from each row, a block at a time, so that no shifted copy is made.
    """
    nearest = torch.full((len(rows),), torch.inf, dtype=rows.dtype, device=rows.device)
    for part, out in zip(rows.split(DISTANCE_ROWS), nearest.split(DISTANCE_ROWS), strict=True):
        block = part if shift is None else part - shift
        for some_centres in centres.split(DISTANCE_ROWS // 4):
            if len(some_centres):
                torch.minimum(out, squared_distances(block, some_centres).amin(1), out=out)
    return nearest


def farthest_first(
    rows: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return k rows, each the farthest from the centres and from the rows before it.

    No choice of k rows leaves less than half the radius (k-centre greedy). Without centres the
    first row comes first.

    The farthest row is looked for in a front of rows that were farthest a while ago. Distances to
    the nearest centre only shrink, so that the front holds the farthest as long as that is farther
    than all others once were. Then all rows are brought up to date in one matrix product, and a new
    front is taken.

    Args:
        rows: of which k ≤ n are chosen.
        centres: chosen already.
        k: how many to choose.

    Returns:
        The rows, and how far each was from its nearest centre when it was chosen.

    Source: Gonzalez 1985.
    """
    if not k:
        return torch.empty(0, dtype=torch.int64), torch.empty(0)
    mean = mean_of(rows, centres)  # distances stay as they are, rounding gets less
    front_size = max(DISTANCE_ROWS, 4 * k)
    far = to_nearest(rows, centres - mean, mean)
    chosen, radii = ([], []) if len(centres) else ([0], [torch.inf])
    far[chosen] = -1
    known = 0  # how many of the chosen rows `far` takes into account
    front, others = torch.empty(0, dtype=torch.int64), torch.inf
    front_rows, front_norms, front_far = rows[:0], far[:0], far[:0]
    while len(chosen) < k:
        if not len(front_far) or float(front_far.max()) < others:
            torch.minimum(far, to_nearest(rows, rows[chosen[known:]] - mean, mean), out=far)
            far[chosen] = -1
            known, others = len(chosen), -1.0
            front = torch.arange(len(rows), device=rows.device)
            if len(rows) > 2 * front_size:
                top = far.topk(front_size + 1)
                front, others = top.indices[:-1], float(top.values[-1])
            front_rows, front_far = rows[front] - mean, far[front]
            front_norms = front_rows.square().sum(1)
        best = int(front_far.argmax())
        chosen.append(int(front[best]))
        radii.append(float(front_far[best]))
        distance = torch.addmv(front_norms, front_rows, front_rows[best], alpha=-2)
        distance = distance.add_(front_norms[best]).clamp_(min=0)
        torch.minimum(front_far, distance, out=front_far)
        front_far[best] = -1  # never again, though all that is left may lie at distance 0
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(radii).sqrt()


def mean_of(*parts: Float[Tensor, "_ d"]) -> Float[Tensor, "d"]:
    """Return the mean of all rows of some tensors, added up in float64, a block at a time."""
    total = torch.zeros(parts[0].shape[1], dtype=torch.float64, device=parts[0].device)
    for part in parts:
        for block in part.split(DISTANCE_ROWS):
            total += block.sum(0, dtype=torch.float64)
    return (total / sum(map(len, parts))).to(parts[0].dtype)


def cover(
    rows: Float[Tensor, "n d"],
    centres: Float[Tensor, "m d"],
    k: int,
    *,
    kernel: Callable[[Tensor], Tensor],
    weights: Float[Tensor, "n"] | None = None,
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return k rows, each the one that adds most to the coverage Σ_i w_i max_j κ(‖x_i − x_j‖²).

    Args:
        rows: x_i, of which k ≤ n are chosen.
        centres: chosen already; j runs over them and over the rows chosen so far.
        k: how many to choose.
        kernel: κ, of squared distances.
        weights: w_i; None for 1 each.

    Returns:
        The rows, and how much each added.

    Source: generalised coverage, Bae et al. 2024.
    """
    weights = rows.new_ones(len(rows)) if weights is None else weights.to(rows.dtype)
    covered = kernel(to_nearest(rows, centres))
    blocks = list(
        zip(
            rows.split(DISTANCE_ROWS),
            weights.split(DISTANCE_ROWS),
            covered.split(DISTANCE_ROWS),
            strict=True,
        )
    )

    def gains(candidates: Tensor) -> Tensor:
        gain = rows.new_zeros(len(candidates))
        for block, weight, before in blocks:
            after = kernel(squared_distances(block, rows[candidates]))
            gain += weight @ (after - before.unsqueeze(1)).clamp_(min=0)
        return gain

    def choose(row: int) -> None:
        torch.maximum(covered, kernel(to_nearest(rows, rows[row : row + 1])), out=covered)

    return greedy(len(rows), k, gains, choose)


def greedy(
    n: int, k: int, gains: Callable[[Tensor], Tensor], choose: Callable[[int], None]
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return k ≤ n distinct rows, each the one that gains most after those before it.

    What a row gains must only shrink as others are chosen, so that old gains are upper bounds, and
    only those of a few rows at the top are computed again. The earlier row wins a tie.

    Args:
        n: how many rows there are.
        k: how many to choose.
        gains: returns what each of these rows would gain now, 0 or more; called with at most a
            thousand at a time.
        choose: called with each row that is chosen.

    Returns:
        The rows, and what each gained.

    Source: Minoux 1978.
    """
    bounds = torch.cat([gains(rows) for rows in torch.arange(n).split(DISTANCE_ROWS // 4)]).cpu()
    current = torch.ones(n, dtype=torch.bool)
    chosen: list[int] = []
    gained: list[float] = []
    for _ in range(k):
        while not current[best := int(bounds.argmax())]:
            top = bounds.masked_fill(current, -1).topk(min(REFRESHED_ROWS, n)).indices
            rows = torch.cat([torch.tensor([best]), top]).unique()
            bounds[rows] = gains(rows).cpu().masked_fill(bounds[rows] < 0, -1)
            current[rows] = True
        chosen.append(best)
        gained.append(float(bounds[best]))
        choose(best)
        bounds[best] = -1
        current[:] = False
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(gained)


def unit(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale rows to length 1 in place, and return them; a row of zeros stays."""
    for block in rows.split(DISTANCE_ROWS):
        block.copy_(torch.nn.functional.normalize(block, dim=1))
    return rows
