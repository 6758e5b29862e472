"""The settings of a training, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass

from dfal.arguments import check_fields
from dfal.errors import SettingError
from dfal.fields import added, setting

UNLABELLED = ("none", "spreading")
"""How a network is trained on unlabelled images."""


@dataclass(frozen=True)
class Training:
    """How a network is trained, from scratch in every round.

    The paper's code has holdout 0.2 and restarts 5.
    """

    learning_rate: float = setting(1e-3, "step size of Adam")
    training_batch: int = setting(32, "mini-batch size")
    epochs: int = setting(100, "most passes over the labelled data")
    holdout: float = setting(
        0.0,
        "fraction of the annotated images, with their twins, held out for early stopping; 0: no"
        " early stopping",
    )
    patience: int = setting(
        5, "epochs without a lower validation loss after which training stops, with a hold-out"
    )
    restarts: int = setting(
        1, "networks trained in each round, of which that with the lowest validation loss is used"
    )
    unlabelled: str = added(
        "none",
        "what the unlabelled images teach: none, or spreading, by which labels spread to similar"
        " images before the network is trained; with --backbone",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.unlabelled not in UNLABELLED:
            raise SettingError(
                "unlabelled", f"must be {' or '.join(UNLABELLED)} (got {self.unlabelled!r})"
            )
        if not 0 < self.learning_rate < float("inf"):
            raise SettingError(
                "learning_rate", f"must be more than 0 and finite (got {self.learning_rate})"
            )
        for name in ("training_batch", "epochs", "patience", "restarts"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more (got {getattr(self, name)})")
        if not 0 <= self.holdout < 1:
            raise SettingError("holdout", f"must be at least 0 and below 1 (got {self.holdout})")
