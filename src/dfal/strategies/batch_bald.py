"""BatchBALD: BALD for a batch, whose images must not be redundant.

Source: Kirsch, van Amersfoort & Gal 2019.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.dropout import only_dropout_on, shared_dropout_mask
from dfal.nn.inference import check_finite, logits
from dfal.nn.network_input import device_of
from dfal.nn.passes import images_a_pass
from dfal.pool import Pool
from dfal.query import Query
from dfal.seeding import fork_rng
from dfal.strategies.bald import FORWARD_BATCH, check_dropout, check_passes
from dfal.strategies.base import Choice, chunks, seed_from
from dfal.strategies.selection import greedy

JOINT_PROBABILITIES = 2**22
"""Joint probabilities in memory at a time."""


@dataclass(frozen=True)
class BatchBALD(Choice):
    """Query the batch with the largest I(y_1 … y_k; ω) = H(y_1 … y_k) − Σ mean H(y_i | ω).

    The batch is built greedily, image by image; scores are what each adds, in nats. The same T
    dropout samples evaluate all images. The joint entropy is exact while the classes of the images
    so far have at most `samples` combinations; beyond, it is estimated from that many combinations
    drawn from their joint distribution (section 3.3 of the paper), without bias but with noise.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all, as in
            the paper.
        passes: T, how many dropout samples are drawn; the information cannot exceed log T.
        samples: combinations of classes, 10,000 in the paper's code.

    Source: Kirsch, van Amersfoort & Gal 2019.
    Cost: T forward passes a candidate; for each of k images C · T · samples multiplications for
    every candidate whose gain may still be the largest, at least 64 of them.
    Memory: K · C · T, and JOINT_PROBABILITIES joint probabilities.
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
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        p = self._probabilities(model, pool, candidates, seed_from(rng))
        order, gains = batch_bald(p, k, self.samples, rng)
        return Query(candidates[order], gains)

    def _probabilities(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], seed: int
    ) -> Float[Tensor, "t n c"]:
        """Return p(y | x, ω) of each image under the same T dropout samples, on the CPU."""
        device = device_of(model)
        example = pool.images.take(indices[:1], device)
        with fork_rng(seed, device), only_dropout_on(model, example) as network:
            check_dropout(network, pool)
        chunks_p = []
        for _, images in chunks(pool, indices, device):
            passes = []
            for t in range(self.passes):
                with shared_dropout_mask(model, seed + t, example) as network:
                    batches = [
                        check_finite(logits(network, batch)).softmax(1).cpu()
                        for batch in images.split(images_a_pass(images, FORWARD_BATCH))
                    ]
                passes.append(torch.cat(batches))
            chunks_p.append(torch.stack(passes))
        return torch.cat(chunks_p, dim=1)


def batch_bald(
    p: Float[Tensor, "t n c"], k: int, samples: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the k rows of the greedy batch, and what each adds to I(y_1 … y_k; ω) in nats.

    Args:
        p: p(y | x, ω) for t networks, n images, c classes.
        k: how many, at most n.
        samples: exact up to that many combinations of classes, estimated from that many beyond.
        rng: draws the combinations.
    """
    p = p.double()
    t, n, c = p.shape
    conditional = -torch.xlogy(p, p).sum(2).mean(0)  # mean_ω H(y_i | ω)
    # For each combination ŷ of the chosen rows' classes: p(ŷ | ω) with weight 1; where ŷ are
    # drawn, p(ŷ | ω) / p(ŷ) with weight 1 / samples.
    joint, weights = torch.ones(1, t, dtype=p.dtype), torch.ones(1, dtype=p.dtype)
    before = 0.0  # H(ŷ); 0 where p(ŷ) is divided out, as there it is from what comes after
    chosen: list[int] = []

    def gains(rows: Tensor) -> Tensor:
        """Return H(y_1 … y_b, y) − H(y_1 … y_b) − mean_ω H(y | ω) of each row."""
        block_gains = []
        for block in rows.split(max(1, JOINT_PROBABILITIES // (len(joint) * c))):
            # p(ŷ_1 … ŷ_b, y)
            q = (joint @ p[:, block].reshape(t, -1) / t).view(len(joint), len(block), c)
            entropy = -(weights @ torch.xlogy(q, q).sum(2))
            block_gains.append(entropy - before - conditional[block])
        return torch.cat(block_gains).clamp(min=0)

    def choose(row: int) -> None:
        nonlocal joint, weights, before
        chosen.append(row)
        if len(joint) * c <= samples:
            joint = (joint.unsqueeze(1) * p[:, row].T).flatten(0, 1)
            weights = weights.repeat_interleave(c)
        else:
            joint = _sample_combinations(p[:, chosen], samples, rng)
            weights = torch.full((samples,), 1 / samples, dtype=p.dtype)
        q = joint.mean(1)
        before = -float(weights @ torch.xlogy(q, q))

    order, gained = greedy(n, k, gains, choose)
    return order, gained.float()


def _sample_combinations(
    p: Float[Tensor, "t b c"], samples: int, rng: torch.Generator
) -> Float[Tensor, "m t"]:
    """Draw combinations ŷ from p(y_1 … y_b) and return p(ŷ | ω) / p(ŷ) under every network.

    p(ŷ | ω) itself is too small a number for a large batch.
    """
    t = len(p)
    networks = torch.randint(t, (samples,), generator=rng)
    log_joint = torch.zeros(samples, t, dtype=p.dtype)
    for i in range(p.shape[1]):
        y = torch.multinomial(p[networks, i], 1, generator=rng).squeeze(1)
        log_joint += p[:, i, y].log().T
    return log_joint.softmax(1) * t
