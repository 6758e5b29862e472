"""CEAL: labels for uncertain images, pseudo-labels for confident ones.

Source: cost-effective active learning, Wang et al. 2016.
"""

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
    """Query the largest entropy, and pseudo-label images of low entropy for the next training.

    In round t, images whose entropy is below δ_t = δ₀ − d · t train the next network under the
    predicted class. They stay unlabelled: a later round may query them. Scores in nats.

    Attributes:
        candidates: K, how many images of U are considered, for labels and pseudo-labels; None for
            all.
        threshold: δ₀ in nats; the DFAL paper's are .05 for MNIST, .19 for Shoe-Bag, .08 for
            Quick-Draw.
        decay: d in nats a round; 0.0033 in the CEAL paper.
        guesses: whether there are pseudo-labels at all. In the code that the DFAL paper's authors
            released they never reach the training set, which leaves entropy.

    Source: Wang et al. 2016.
    Cost: one forward pass a candidate; training on the pseudo-labels may cost far more.
    Memory: the logits.
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
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        f = all_logits(model, pool, candidates)
        uncertainty = entropy(f)
        query = top_k(candidates, uncertainty, k, largest=True)
        if not self.guesses:
            return query
        confident = uncertainty < self.threshold - self.decay * pool.round
        confident &= ~torch.isin(candidates, query.indices)
        return Query(
            query.indices,
            query.scores,
            guessed=candidates[confident],
            guesses=f[confident].argmax(1),
        )


CEAL_RELEASED = CEAL(guesses=False)
