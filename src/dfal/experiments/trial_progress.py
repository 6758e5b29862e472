"""What a trial carries from round to round: its last network, and its augmentation."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dfal.nn.augmentation_choice import MIN_IMAGES
from dfal.pool import Pool


class TrialProgress:
    """What a round of a trial takes from the rounds before.

    All of it follows from their pools and the weights of the last network, so that a resumed trial
    has the same.
    """

    def __init__(self) -> None:
        self.weights: Mapping[str, Tensor] | None = None
        """The `state_dict` of the last network; None where the next one starts from scratch."""
        self._classes: set[int] = set()
        self._augmentation_pool: Pool | None = None
        self._augmentation: str | None = None

    def see(self, pool: Pool) -> None:
        """Take notice of the pool of a round before its network is trained."""
        if self._augmentation_pool is None and pool.annotations >= MIN_IMAGES:
            self._augmentation_pool = pool

    def start(self, pool: Pool) -> Mapping[str, Tensor] | None:
        """Return the weights to start from; None where a class of the pool is new to the network.

        Such a network has learnt, with confidence, that the class is another one.
        """
        return self.weights if _classes(pool) <= self._classes else None

    def remember(self, weights: Mapping[str, Tensor] | None, pool: Pool) -> None:
        """Let the next round start from a network's weights, which was trained on a pool."""
        self.weights, self._classes = weights, _classes(pool)

    def augmentation(self, choose: Callable[[Pool], str]) -> str:
        """Return what is chosen for the first pool with enough labels, once."""
        if self._augmentation_pool is None:
            return "none"
        if self._augmentation is None:
            self._augmentation = choose(self._augmentation_pool)
        return self._augmentation


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights on the CPU."""
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}


def _classes(pool: Pool) -> set[int]:
    return set(pool.labels[pool.labelled].tolist())
