"""The settings of `dfal label`, without PyTorch: the command line reads its options from them."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dfal.damage import check_types
from dfal.errors import DfalError
from dfal.fields import setting
from dfal.nn.training_settings import Training

LARGEST_SIDE = 2**14
"""Pixels of the side of an image as a network sees it."""


@dataclass(frozen=True)
class Settings:
    """How a folder is labelled: everything that `dfal label` is told, beside the classes."""

    folder: str = ""
    strategy: str = setting(
        "dfal",
        "whom to ask: one that `dfal strategies` lists, with +twins behind it to learn twins too",
    )
    candidates: int = setting(
        300, "K: unlabelled images that the strategy looks at each time, drawn at random"
    )
    model: str = setting(
        "lenet5",
        "network: lenet5, vgg8, or package.module:function that returns an nn.Module of logits",
    )
    size: int = setting(
        0, "side in pixels of the images as the network sees them; 0: as suits the folder"
    )
    channels: int = 0
    cache: str = ""
    first: int = setting(
        10, "answers about images drawn at random before the first network is trained"
    )
    batch: int = setting(
        10, "new answers after which the network is trained again; images of a grid"
    )
    holdout: float = setting(
        0.2,
        "fraction of the questions that are drawn at random, measure accuracy and never train; 0:"
        " none",
    )
    votes: int = setting(
        1,
        "people who are asked about each image; the majority is its label, and one more is asked"
        " where there is a tie",
    )
    lease: float = setting(
        600.0, "seconds after which an unanswered question is asked of somebody else"
    )
    target: float = setting(0.95, "accuracy to reach, for the estimate of the labels left")
    seed: int = setting(0, "fixes what is drawn at random")
    device: str = setting("cpu", "where networks are trained: cpu, cuda, cuda:1, …")
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        for name in ("candidates", "first", "batch", "votes"):
            if getattr(self, name) < 1:
                raise DfalError(f"{name} = {getattr(self, name)} must be 1 or more")
        if not 0 <= self.holdout <= 0.5:
            raise DfalError(
                f"holdout = {self.holdout} is no fraction of the questions: give 0 ≤ holdout ≤ 0.5"
            )
        if not 0 < self.target < 1:
            raise DfalError(
                f"target = {self.target} is no accuracy to reach: give a fraction between 0 and 1"
            )
        if not self.lease > 0:
            raise DfalError(
                f"lease = {self.lease} would leave no time to answer: give some seconds"
            )
        if self.seed < 0:
            raise DfalError(f"seed = {self.seed} must be 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Settings":
        """From how it is stored.

        Raises:
            ValueError: for a setting that is none, of another type, or outside what it may be.
        """
        check_types(Training, stored["training"])
        settings = {**stored, "training": Training(**stored["training"])}
        check_types(cls, settings)
        if (
            settings.get("channels", 0) not in {0, 1, 3}
            or not 0 <= settings.get("size", 0) <= LARGEST_SIDE
        ):
            raise ValueError("no image has this size")
        return replace(cls(), **settings)
