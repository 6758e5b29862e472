"""Random noise on a ranking, so that a batch is not all of one kind (Kirsch et al. 2023, Stochastic
Batch Acquisition)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.inference import default_modes
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.query import Query
from dfal.strategies.bald import BALD


@dataclass(frozen=True)
class Stochastic:
    """Asks about the k largest of key + ε, ε drawn from Gumbel(0, 1/β): k draws without replacement
    from softmax(β · key).

    Scores are those of `strategy`. PowerBALD is `Stochastic(BALD())`.

    Attributes:
        strategy: ranks its candidates, as `Entropy`, `Margin`, `LeastConfidence`, `BALD`, `EGL` and
        `DFAL` do.
        form: the key. "power": log s, where small scores are wanted −log s; "softmax": s or −s;
        "soft-rank": −log rank.
        beta: β; 1 in the paper. Noise is gone at inf; 0 is random choice.

    Cost and memory: those of `strategy` asked to rank all of its candidates.
    """

    strategy: Strategy
    form: str = "power"
    beta: float = 1

    def __post_init__(self) -> None:
        if self.form not in {"power", "softmax", "soft-rank"}:
            raise DfalError(f"form = {self.form!r} must be 'power', 'softmax' or 'soft-rank'")
        if not self.beta >= 0:
            raise DfalError(f"beta = {self.beta} must be 0 or more")

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        candidates = getattr(self.strategy, "candidates", None)
        count = (
            len(pool.unlabelled)
            if candidates is None
            else min(max(candidates, k), len(pool.unlabelled))
        )
        ranked = self.strategy(model, pool, count, rng)
        noise = -torch.empty(len(ranked.indices)).exponential_(generator=rng).log()
        # β · key + Gumbel(0, 1) has the order of key + Gumbel(0, 1/β), for β = 0 too.
        key = self._key(ranked.scores)
        noisy = key if self.beta == torch.inf else (self.beta * key).nan_to_num(nan=0.0) + noise
        return ranked.only(noisy.sort(stable=True, descending=True).indices[:k])

    def _key(self, scores: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Large where the image is wanted. The scores come most wanted first, which tells which way
        they run."""
        if self.form == "soft-rank":
            return -torch.arange(1, len(scores) + 1).log()
        values = scores.clamp(min=0).log() if self.form == "power" else scores
        return -values if len(scores) and scores[0] < scores[-1] else values


POWER_BALD = Stochastic(BALD())
