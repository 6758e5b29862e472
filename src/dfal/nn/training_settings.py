"""The settings of a training, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass

from dfal.arguments import check_fields
from dfal.errors import SettingError, unknown_name
from dfal.fields import added, setting
from dfal.nn import AUGMENTATIONS

UNLABELLED = ("none", "spreading", "pseudo-labels", "vat", "consistency")
"""How a network is trained on unlabelled images."""
AUTO = "auto"
"""The augmentation that cross-validation chooses."""
SCHEDULES = ("constant", "cosine")
"""How the step size changes during a training."""


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
        "what the unlabelled images teach: none; pseudo-labels of a slightly changed image for one"
        " that is changed more; vat, virtual adversarial training, by which the prediction stays"
        " the same around each image; consistency, both; or, with --backbone, spreading, by which"
        " labels spread to similar images before the network is trained",
    )
    steps: int = added(
        0,
        "least number of steps of Adam in a training, all on full mini-batches, for which it passes"
        " over the labelled data more often than --epochs says; 0: as --epochs says",
    )
    warm_steps: int = added(
        0,
        "the same where a training starts from the network of the round before; 0: all start from"
        " scratch, as each does in which a class is new",
    )
    schedule: str = added(
        "constant",
        "how the step size changes: constant, or cosine, by which it rises in the first steps and"
        " falls to 0",
    )
    average: float = added(
        0.0,
        "decay of a running mean of the weights, such as 0.999, which takes the place of the last"
        " weights; 0: no mean",
    )
    augment: str = added(
        "none",
        f"random changes of the images trained on: {', '.join(AUGMENTATIONS)}, auto for what suits"
        " the labels in cross-validation, or your own package.module:function",
    )
    without_dropout: bool = added(
        False, "train with dropout off, as training on unlabelled images always does"
    )
    ensemble: int = added(
        1, "networks trained in each round whose mean probabilities predict and select"
    )
    unlabelled_batch: int = added(128, "unlabelled images in each step")
    threshold: float = added(0.8, "least probability of a pseudo-label that is trained on")
    radius: float = added(
        2.0, "length of the change by which vat tries an unlabelled image (2-norm)"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name, among in (("unlabelled", UNLABELLED), ("schedule", SCHEDULES)):
            value = getattr(self, name)
            if value not in among:
                raise SettingError(
                    name, f"must be {', '.join(among[:-1])} or {among[-1]} (got {value!r})"
                )
        if ":" not in self.augment and self.augment not in {*AUGMENTATIONS, AUTO}:
            raise unknown_name(
                "augmentation", self.augment, [*AUGMENTATIONS, AUTO, "package.module:function"]
            )
        if not 0 < self.learning_rate < float("inf"):
            raise SettingError(
                "learning_rate", f"must be more than 0 and finite (got {self.learning_rate})"
            )
        counts = ("training_batch", "epochs", "patience", "restarts", "ensemble")
        for name in (*counts, "unlabelled_batch"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more (got {getattr(self, name)})")
        for name in ("steps", "warm_steps"):
            if getattr(self, name) < 0:
                raise SettingError(name, f"must be 0 or more (got {getattr(self, name)})")
        for name in ("holdout", "average", "threshold"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(
                    name, f"must be at least 0 and below 1 (got {getattr(self, name)})"
                )
        if not 0 < self.radius < float("inf"):
            raise SettingError("radius", f"must be more than 0 and finite (got {self.radius})")

    @property
    def learns_consistency(self) -> bool:
        """Return whether a network is trained on unlabelled images step by step."""
        return self.unlabelled in {"pseudo-labels", "vat", "consistency"}

    @property
    def is_without_dropout(self) -> bool:
        """Return whether dropout is off in training."""
        return self.without_dropout or self.learns_consistency
