"""The settings of a training, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass

from dfal.arguments import check_fields
from dfal.errors import DfalError
from dfal.fields import setting


@dataclass(frozen=True)
class Training:
    """How a network is trained, from scratch in every round. The paper's code: holdout 0.2 and
    restarts 5."""

    learning_rate: float = setting(1e-3, "step size of Adam")
    training_batch: int = setting(32, "images a training step")
    epochs: int = setting(100, "passes over the labelled data, at most")
    holdout: float = setting(
        0.0,
        "fraction of the annotated images held out, with their twins, for early stopping; 0: no"
        " early stopping",
    )
    patience: int = setting(
        5, "with a hold-out, stop after so many epochs without a lower validation loss"
    )
    restarts: int = setting(
        1, "trainings a round, of which the one with the lowest validation loss is kept"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.learning_rate < float("inf"):
            raise DfalError(
                f"learning_rate = {self.learning_rate} would not train: give more than 0, and a"
                " finite number"
            )
        for name in ("training_batch", "epochs", "patience", "restarts"):
            if getattr(self, name) < 1:
                raise DfalError(f"{name} = {getattr(self, name)} must be 1 or more")
        if not 0 <= self.holdout < 1:
            raise DfalError(f"holdout = {self.holdout} is no fraction: give 0 ≤ holdout < 1")
