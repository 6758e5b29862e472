"""Start each round's training from the network of the round before."""

from collections.abc import Mapping

from torch import Tensor, nn

from dfal.pool import Pool


class LastNetwork:
    """The network of the last round.

    Args:
        weights: its `state_dict`; None before the first round.
        pool: that it was trained on.
    """

    def __init__(self, weights: Mapping[str, Tensor] | None = None, pool: Pool | None = None):
        self.weights = weights
        self._classes = set() if pool is None else _classes(pool)

    def start(self, pool: Pool) -> Mapping[str, Tensor] | None:
        """Return the weights to start from; None where a class of the pool is new to the network.

        Such a network has learnt, with confidence, that the class is another one.
        """
        return self.weights if _classes(pool) <= self._classes else None

    def remember(self, model: nn.Module, pool: Pool) -> None:
        """Let the next round start from this network, which was trained on a pool."""
        self.weights = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
        self._classes = _classes(pool)


def _classes(pool: Pool) -> set[int]:
    return set(pool.labels[pool.labelled].tolist())
