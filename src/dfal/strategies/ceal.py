"""CEAL, cost-effective active learning (Wang et al. 2016): ask where the network hesitates, believe
it where it does not."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.fields import added
from dfal.pool import Pool
from dfal.query import Query
from dfal.strategies.base import Choice, all_logits, top_k
from dfal.strategies.scores import entropy


@dataclass(frozen=True)
class CEAL(Choice):
    """Asks about the largest entropy, and lets the network's own labels stand, for the next
    training only, where entropy is below δ_t = δ₀ − d · t in round t.

    Scores in nats. The guessed images stay unlabelled: a later round may ask about them.

    Attributes:
        candidates: K, how many images of U are looked at, asked about or guessed; None for all.
        threshold: δ₀ in nats; the DFAL paper's are .05 for MNIST, .19 for Shoe-Bag, .08 for
        Quick-Draw.
        decay: d in nats a round; 0.0033 in the CEAL paper.
        guesses: whether guesses are learnt at all. In the code that the DFAL paper's authors
            released they never reach the training set, which leaves entropy.

    Cost: one forward pass a candidate; training on the guesses may cost far more. Memory: the
    logits.
    """

    threshold: float = 0.05
    decay: float = 0.0033
    guesses: bool = added(True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold < 0 or self.decay < 0:
            raise DfalError(
                f"threshold = {self.threshold} and decay = {self.decay} must be 0 or more"
            )

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        f = all_logits(model, pool, drawn)
        hesitation = entropy(f)
        asked = top_k(drawn, hesitation, k, largest=True)
        if not self.guesses:
            return asked
        sure = (hesitation < self.threshold - self.decay * pool.round) & ~torch.isin(
            drawn, asked.indices
        )
        return Query(asked.indices, asked.scores, guessed=drawn[sure], guesses=f[sure].argmax(1))


CEAL_RELEASED = CEAL(guesses=False)
