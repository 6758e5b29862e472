"""Random noise on a ranking, which makes the images of a batch less alike.

Source: Stochastic Batch Acquisition, Kirsch et al. 2023.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.query import Query
from dfal.strategies.bald import BALD


@dataclass(frozen=True)
class Stochastic:
    """Query the k largest of key + ε, with ε drawn from Gumbel(0, 1/β).

    That is k draws without replacement from softmax(β · key). Scores are those of `strategy`.
    PowerBALD is `Stochastic(BALD())`.

    Attributes:
        strategy: ranks its candidates, as `Entropy`, `Margin`, `LeastConfidence`, `BALD`, `EGL` and
            `DFAL` do.
        form: the key. "power": log s, where small scores are wanted −log s; "softmax": s or −s;
            "soft-rank": −log rank.
        beta: β; 1 in the paper. There is no noise at inf; 0 is random sampling.

    Source: Kirsch et al. 2023.
    Cost: that of `strategy` ranking all of its candidates.
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
        count = len(pool.unlabelled)
        if candidates is not None:
            count = min(max(candidates, k), count)
        ranked = self.strategy(model, pool, count, rng)
        gumbel = -torch.empty(len(ranked.indices)).exponential_(generator=rng).log()
        # β · key + Gumbel(0, 1) has the order of key + Gumbel(0, 1/β), for β = 0 too.
        key = self._key(ranked.scores)
        noisy = key if self.beta == torch.inf else (self.beta * key).nan_to_num(nan=0.0) + gumbel
        return ranked.only(noisy.sort(stable=True, descending=True).indices[:k])

    def _key(self, scores: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Return the key of each score, large for what is wanted.

        Scores come most wanted first, which tells whether large or small ones are wanted.
        """
        if self.form == "soft-rank":
            return -torch.arange(1, len(scores) + 1).log()
        values = scores.clamp(min=0).log() if self.form == "power" else scores
        return -values if len(scores) and scores[0] < scores[-1] else values


POWER_BALD = Stochastic(BALD())
