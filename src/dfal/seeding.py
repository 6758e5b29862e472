"""Random numbers as a function of (seed, round, purpose).

There is no global stream, so that a resumed trial needs no saved state of a generator.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from dfal.arguments import short, whole
from dfal.errors import DfalError


def derive_seed(seed: int, round: int, purpose: str) -> int:
    """Return a 63-bit seed that depends on the three arguments and on nothing else.

    Args:
        seed: of the trial.
        round: of active learning.
        purpose: what is random: "fit", "select".

    Raises:
        DfalError: for a seed or round that is no whole number, or a purpose that is no text.
    """
    if not isinstance(purpose, str):
        raise DfalError(
            f"the purpose {short(purpose)} is not text: give dfal.generator(seed, round, 'select')"
        )
    if type(seed) is not int or type(round) is not int:
        seed, round = whole("seed", seed), whole("round", round)
    digest = hashlib.sha256(f"{seed}/{round}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


seed_for = derive_seed
"""The former name of `derive_seed`."""


def generator(seed: int, round: int, purpose: str) -> torch.Generator:
    """Return a new CPU generator with the seed of `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, round, purpose))


@contextlib.contextmanager
def fork_rng(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators for a block, and restore them afterwards.

    Initialisers and dropout layers draw from the global generators; everything else in dfal takes a
    `torch.Generator`.
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # torch.manual_seed would change the generators of all GPUs, too.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
