"""BALD: images about whose class dropout samples disagree.

Source: Houlsby et al. 2011, with dropout as the distribution over networks (Gal, Islam & Ghahramani
2017).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.dropout import only_dropout_on, stochastic_forward
from dfal.nn.inference import logits
from dfal.nn.network_input import device_of
from dfal.nn.passes import images_a_pass
from dfal.pool import Pool
from dfal.seeding import fork_rng
from dfal.strategies.base import Ranking, chunks, seed_from
from dfal.strategies.scores import mutual_information

FORWARD_BATCH = 1024
"""Images in one forward pass, fewer where they are large."""


@dataclass(frozen=True)
class BALD(Ranking):
    """Query the largest mutual information of class and weights, I(y; ω | x).

    I = H(mean p) − mean H(p) is large where dropout samples are each confident but disagree. Scores
    in nats, between 0 and log C.

    Attributes:
        passes: T, how many dropout samples are drawn; 10 in the paper.

    Raises:
        DfalError: for a network without a dropout layer that has an effect.

    Source: Gal, Islam & Ghahramani 2017.
    Cost: T forward passes a candidate.
    Memory: T times the logits of a batch.
    """

    passes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_passes(self.passes)

    @torch.no_grad()
    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        device = device_of(model)
        with (
            fork_rng(seed_from(rng), device),
            only_dropout_on(model, pool.images.take(indices[:1], device)) as network,
        ):
            check_dropout(network, pool)
            scores = [
                mutual_information(stochastic_forward(network, batch, self.passes))
                for _, images in chunks(pool, indices, device)
                for batch in images.split(images_a_pass(images, FORWARD_BATCH))
            ]
        return torch.cat(scores).cpu()


def check_passes(passes: int) -> None:
    """Check that there are at least two dropout samples, as one cannot disagree.

    Raises:
        DfalError: for fewer.
    """
    if passes < 2:
        raise DfalError(
            f"passes = {passes}: dropout samples that may disagree are needed, so give 2 or more"
        )


def check_dropout(model: nn.Module, pool: Pool) -> None:
    """Check on noise that dropout changes the logits; images may be all black.

    Raises:
        DfalError: where it does not.
    """
    noise = torch.rand(8, *pool.images.shape, device=device_of(model))
    first = logits(model, noise)
    if all(torch.equal(first, logits(model, noise)) for _ in range(7)):
        raise DfalError(
            "the network's passes are all alike although it has a dropout layer, which it does not"
            " run, or not so that anything comes of it: use nn.Dropout modules in its forward, not"
            " F.dropout"
        )
