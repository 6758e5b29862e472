"""BALD (Houlsby et al. 2011) with dropout as the distribution over networks (Gal, Islam &
Ghahramani 2017)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.dropout import only_dropout_on, stochastic_forward
from dfal.nn.inference import device_of, logits
from dfal.pool import Pool
from dfal.seeding import fork_rng
from dfal.strategies.base import Ranking, chunks, seed_from
from dfal.strategies.scores import mutual_information

PART = 1024
"""Images that go through the network at a time."""


@dataclass(frozen=True)
class BALD(Ranking):
    """Asks where networks drawn by dropout are each sure but disagree: the largest I(y; ω | x) =
    H(mean p) − mean H(p).

    Scores in nats, between 0 and log C.

    Attributes:
        passes: T, how many times dropout is drawn; 10 in the paper.

    Raises:
        DfalError: for a network whose passes are all alike, because it has no dropout layer that is
        live.

    Cost: T forward passes a candidate. Memory: T times the logits of a chunk.
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
            refuse_dead(network, pool)
            found = []
            for _, images in chunks(pool, indices, device):
                for part in images.split(PART):
                    found.append(mutual_information(stochastic_forward(network, part, self.passes)))
        return torch.cat(found).cpu()


def check_passes(passes: int) -> None:
    """Raise for fewer than two networks: one cannot disagree."""
    if passes < 2:
        raise DfalError(
            f"passes = {passes}: networks that may disagree are needed, so give 2 or more"
        )


def refuse_dead(model: nn.Module, pool: Pool) -> None:
    """Raise where dropout changes nothing, seen on noise rather than on images, which may be all
    black."""
    noise = torch.rand(8, *pool.images.shape, device=device_of(model))
    first = logits(model, noise)
    if all(torch.equal(first, logits(model, noise)) for _ in range(7)):
        raise DfalError(
            "the network's passes are all alike although it has a dropout layer, which it does not"
            " run, or not so that anything comes of it: use nn.Dropout modules in its forward, not"
            " F.dropout"
        )
