"""BatchBALD (Kirsch, van Amersfoort & Gal 2019): BALD for a batch, whose images must not all tell
the same."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.dropout import only_dropout_on, shared_dropout_mask
from dfal.nn.inference import check_finite, device_of, logits
from dfal.pool import Pool
from dfal.query import Query
from dfal.seeding import fork_rng
from dfal.strategies.bald import PART, check_passes, refuse_dead
from dfal.strategies.base import Choice, chunks, seed_from
from dfal.strategies.selection import greedy

CELLS = 2**22
"""Probabilities in memory at a time."""


@dataclass(frozen=True)
class BatchBALD(Choice):
    """Asks about the batch with the largest I(y_1 … y_k; ω) = H(y_1 … y_k) − Σ mean H(y_i | ω),
    greedily one by one.

    Scores are what each image adds, in nats. The same T networks, drawn by dropout, look at all
    images. The joint entropy is exact while the classes of the images so far have at most `samples`
    combinations; beyond, it is estimated from so many combinations drawn from their joint
    distribution (section 3.3 of the paper), without bias but with noise.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all. The paper
        takes them all.
        passes: T, how many networks; the information cannot exceed log T.
        samples: combinations of classes, 10,000 in the paper's code.

    Cost: T forward passes a candidate, and for each of k images C · T · samples multiplications for
    those candidates whose gain may still be the largest, 64 of them or more. Memory: K · C · T, and
    CELLS joint probabilities.
    """

    candidates: int | None = 100
    passes: int = 10
    samples: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_passes(self.passes)
        if self.samples < 1:
            raise DfalError(f"samples = {self.samples} must be 1 or more")

    @torch.no_grad()
    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        device, seed = device_of(model), seed_from(rng)
        example = pool.images.take(drawn[:1], device)
        with fork_rng(seed, device), only_dropout_on(model, example) as network:
            refuse_dead(network, pool)
        parts = []
        for _, images in chunks(pool, drawn, device):
            passes = []
            for t in range(self.passes):
                with shared_dropout_mask(model, seed + t, example) as network:
                    passes.append(
                        torch.cat(
                            [
                                check_finite(logits(network, part)).softmax(1).cpu()
                                for part in images.split(PART)
                            ]
                        )
                    )
            parts.append(torch.stack(passes))
        order, gains = batch_bald(torch.cat(parts, dim=1), k, self.samples, rng)
        return Query(drawn[order], gains)


def batch_bald(
    p: Float[Tensor, "t n c"], k: int, samples: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The k rows of the greedy batch, in order, and what each adds to I(y_1 … y_k; ω) in nats.

    Args:
        p: p(y | x, ω) for t networks, n images, c classes.
        k: how many, at most n.
        samples: exact up to so many combinations of classes, estimated from so many beyond.
        rng: draws the combinations.
    """
    p = p.double()
    t, n, c = p.shape
    conditional = -torch.xlogy(p, p).sum(2).mean(0)  # mean_ω H(y_i | ω)
    # For each combination ŷ of the chosen rows' classes p(ŷ | ω), and 1; where they are drawn p(ŷ |
    # ω) / p(ŷ), and 1 / samples.
    joint, weights = torch.ones(1, t, dtype=p.dtype), torch.ones(1, dtype=p.dtype)
    before = 0.0  # H(ŷ); 0 where p(ŷ) is divided out, as there it is from what comes after
    chosen: list[int] = []

    def gains(rows: Tensor) -> Tensor:
        """H(y_1 … y_b, y) − H(y_1 … y_b) − mean_ω H(y | ω)."""
        found = []
        for part in rows.split(max(1, CELLS // (len(joint) * c))):
            q = (joint @ p[:, part].reshape(t, -1) / t).view(
                len(joint), len(part), c
            )  # p(ŷ_1 … ŷ_b, y)
            found.append(-(weights @ torch.xlogy(q, q).sum(2)) - before - conditional[part])
        return torch.cat(found).clamp(min=0)

    def choose(row: int) -> None:
        nonlocal joint, weights, before
        chosen.append(row)
        if len(joint) * c <= samples:
            joint = (joint.unsqueeze(1) * p[:, row].T).flatten(0, 1)
            weights = weights.repeat_interleave(c)
        else:
            joint = _sampled(p[:, chosen], samples, rng)
            weights = torch.full((samples,), 1 / samples, dtype=p.dtype)
        q = joint.mean(1)
        before = -float(weights @ torch.xlogy(q, q))

    order, gained = greedy(n, k, gains, choose)
    return order, gained.float()


def _sampled(p: Float[Tensor, "t b c"], samples: int, rng: torch.Generator) -> Float[Tensor, "m t"]:
    """Combinations ŷ drawn from p(y_1 … y_b): p(ŷ | ω) / p(ŷ) under every network, as p(ŷ | ω)
    itself is too small a number for a large batch."""
    t = len(p)
    networks = torch.randint(t, (samples,), generator=rng)
    log_joint = torch.zeros(samples, t, dtype=p.dtype)
    for i in range(p.shape[1]):
        y = torch.multinomial(p[networks, i], 1, generator=rng).squeeze(1)
        log_joint += p[:, i, y].log().T
    return log_joint.softmax(1) * t
