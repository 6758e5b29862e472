"""Pure functions that choose rows by the distances between them. Memory is linear in the rows: no N
× N matrix."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS = 4096
"""Rows whose distances to others are in memory at a time."""

BLOCK = 64
"""Rows whose gains are brought up to date at a time."""


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """‖a_i − b_j‖², as ‖a‖² + ‖b‖² − 2⟨a, b⟩: fast, never below 0, and exact to some 1e-6 of the
    largest ‖a‖² + ‖b‖²."""
    norms = a.square().sum(1).unsqueeze(1) + b.square().sum(1)
    return torch.addmm(norms, a, b.T, alpha=-2).clamp_(min=0)


def to_nearest(rows: Float[Tensor, "n d"], centres: Float[Tensor, "m d"]) -> Float[Tensor, "n"]:
    """The squared distance from each row to its nearest centre; inf where there is none."""
    least = torch.full((len(rows),), torch.inf, dtype=rows.dtype, device=rows.device)
    for part, to in zip(rows.split(ROWS), least.split(ROWS), strict=True):
        for some in centres.split(ROWS // 4):
            if len(some):
                torch.minimum(to, squared_distances(part, some).amin(1), out=to)
    return least


def farthest_first(
    rows: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """k ≤ n rows, each the farthest from the centres and from the rows before it, and how far each
    was (k-centre greedy, Gonzalez 1985): no choice of k rows leaves less than half the radius.
    Without centres the first row comes first.

    The farthest row is looked for in a front of rows that were farthest a while ago. Distances to
    the nearest centre only shrink, so that the front holds the farthest as long as that is farther
    than all others once were. Then all rows are brought up to date in one matrix product, and a new
    front is taken.
    """
    mean = torch.cat([rows, centres]).mean(0)  # distances stay as they are, rounding gets less
    rows, centres = rows - mean, centres - mean
    norms = rows.square().sum(1)
    size = max(ROWS, 4 * k)
    far = to_nearest(rows, centres)
    front = torch.arange(len(rows), device=rows.device)
    front_rows, front_norms, front_far, others = rows, norms, far.clone(), torch.inf
    chosen: list[int] = []
    radii: list[float] = []
    behind = 0  # chosen rows that `far` does not know yet begin here
    for _ in range(k):
        best = int(front_far.argmax())
        if float(front_far[best]) < others:
            torch.minimum(far, to_nearest(rows, rows[chosen[behind:]]), out=far)
            far[chosen] = -1
            behind, others = len(chosen), -1.0
            if len(rows) > 2 * size:
                top = far.topk(size + 1)
                front, others = top.indices[:-1], float(top.values[-1])
                front_rows, front_norms = rows[front], norms[front]
            front_far = far[front]
            best = int(front_far.argmax())
        chosen.append(int(front[best]))
        radii.append(float(front_far[best]))
        distance = torch.addmv(front_norms, front_rows, front_rows[best], alpha=-2).add_(
            front_norms[best]
        )
        torch.minimum(front_far, distance.clamp_(min=0), out=front_far)
        front_far[best] = -1  # never again, though all that is left may lie at distance 0
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(radii).sqrt()


def cover(
    rows: Float[Tensor, "n d"],
    centres: Float[Tensor, "m d"],
    k: int,
    *,
    kernel: Callable[[Tensor], Tensor],
    weights: Float[Tensor, "n"] | None = None,
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """k ≤ n rows, each the one that adds most to Σ_i w_i max_j κ(‖x_i − x_j‖²) over the centres and
    rows j chosen before it, and how much each added (generalised coverage, Bae et al. 2024)."""
    weights = rows.new_ones(len(rows)) if weights is None else weights.to(rows.dtype)
    covered = kernel(to_nearest(rows, centres))

    def gains(which: Tensor) -> Tensor:
        gained = rows.new_zeros(len(which))
        for part, weight, have in zip(
            rows.split(ROWS), weights.split(ROWS), covered.split(ROWS), strict=True
        ):
            gained += weight @ (
                kernel(squared_distances(part, rows[which])) - have.unsqueeze(1)
            ).clamp_(min=0)
        return gained

    def choose(row: int) -> None:
        torch.maximum(covered, kernel(to_nearest(rows, rows[row : row + 1])), out=covered)

    return greedy(len(rows), k, gains, choose)


def greedy(
    n: int, k: int, gains: Callable[[Tensor], Tensor], choose: Callable[[int], None]
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """k ≤ n distinct rows, each the one that gains most after those before it, and what each gained
    (Minoux 1978).

    What a row gains must only shrink as others are chosen, so that old gains are upper bounds, and
    only those of a few rows at the top are computed again. The earlier row wins a tie.

    Args:
        n: how many rows there are.
        k: how many to choose.
        gains: what each of these rows would gain now, 0 or more; asked about a thousand at a time
        at most.
        choose: told of each row that is chosen.
    """
    bounds = torch.cat([gains(rows) for rows in torch.arange(n).split(ROWS // 4)]).cpu()
    fresh = torch.ones(n, dtype=torch.bool)
    chosen: list[int] = []
    gained: list[float] = []
    for _ in range(k):
        while not fresh[best := int(bounds.argmax())]:
            rows = torch.cat(
                [torch.tensor([best]), bounds.masked_fill(fresh, -1).topk(min(BLOCK, n)).indices]
            ).unique()
            bounds[rows] = gains(rows).cpu().masked_fill(bounds[rows] < 0, -1)
            fresh[rows] = True
        chosen.append(best)
        gained.append(float(bounds[best]))
        choose(best)
        bounds[best] = -1
        fresh[:] = False
    return torch.tensor(chosen, dtype=torch.int64), torch.tensor(gained)


def unit(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The rows scaled to length 1; a row of zeros stays."""
    return torch.nn.functional.normalize(rows, dim=1)
