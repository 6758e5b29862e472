"""The settings of `dfal label`, without PyTorch: the command line reads its options from them."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from dfal.backbones import BACKBONES
from dfal.damage import check_types
from dfal.errors import SettingError
from dfal.fields import setting
from dfal.nn import NETWORKS
from dfal.nn.training_settings import Training

TRAINING_OPTIONS = (
    *("learning_rate", "training_batch", "epochs", "steps", "schedule", "average"),
    *("augment", "unlabelled"),
)
"""The settings of training that `dfal label` has options for."""

AUTO, NO_BACKBONE, PIXELS = "auto", "none", "pixels"
"""Values of `Settings.backbone`: what predicts the labels best; a network on pixels; the pixels as
features."""
EVERY_IMAGE = "none+unlabelled"
"""What a session learns from where a network on pixels is trained on unlabelled images, too."""
NETWORKS_ON_PIXELS = frozenset({NO_BACKBONE, EVERY_IMAGE})
PIXEL_STRATEGY, EVERY_IMAGE_STRATEGY, FEATURE_STRATEGY = "dfal", "cluster-margin", "few-labels"
"""What the strategy "auto" is for networks on pixels, without and with unlabelled images, and on
features."""

LABEL_TRAINING = Training(steps=500, schedule="cosine")
"""How a new session trains a network on its labels: in some seconds."""
UNLABELLED_TRAINING = Training(
    epochs=1,
    steps=1000,
    warm_steps=300,
    learning_rate=3e-3,
    schedule="cosine",
    average=0.999,
    augment=AUTO,
    unlabelled="consistency",
    unlabelled_batch=64,
)
"""How a network is trained on the images without a label, too."""

LARGEST_SIDE = 2**14
"""Pixels of the side of an image as a network sees it."""


@dataclass(frozen=True)
class Settings:
    """How a folder is labelled: everything that `dfal label` is told, beside the classes."""

    folder: str = ""
    strategy: str = setting(
        "auto",
        "query strategy: one that `dfal strategies` lists; +twins behind it adds adversarial twins;"
        " auto: as suits what is learnt from",
    )
    candidates: int = setting(
        300, "unlabelled images among which the strategy selects, sampled at random (K)"
    )
    model: str = setting(
        "lenet5",
        f"network: {', '.join(NETWORKS)}, or package.module:function that returns an nn.Module of"
        " logits",
    )
    backbone: str = setting(
        "auto",
        f"network that turns images into the features that are learnt from: {', '.join(BACKBONES)},"
        " or package.module:function; +pixels behind it adds the pixels; none: a network is trained"
        " on pixels; auto: what predicts the labels best",
    )
    labels_only: bool = setting(
        False,
        "learn from the pixels of labelled images alone: no network is trained on the images"
        " without a label while nobody waits for it, and with --backbone none no labels spread to"
        " similar images before the first network",
    )
    fit: str = setting(
        "",
        "your own training, package.module:function, which is called as (make, data, seed) and"
        " returns the trained network; it trains on pixels",
    )
    size: int = setting(
        0,
        "side in pixels to which images are scaled for the network; 0: that for which the network"
        " says it was made, else as suits the folder",
    )
    channels: int = 0
    cache: str = ""
    first: int = setting(
        10, "answers before a network on pixels is first trained; features need no such start"
    )
    batch: int = setting(
        10,
        "answers after which a network on pixels is trained again, on features after each;"
        " images of a grid",
    )
    holdout: float = setting(
        0.2,
        "fraction of the questions that are sampled at random, to measure accuracy, and never"
        " trained on; 0: none",
    )
    votes: int = setting(
        1,
        "people who label each image; the majority is its label, and one more person decides a tie",
    )
    lease: float = setting(600.0, "seconds after which somebody else gets an unanswered question")
    target: float = setting(0.95, "accuracy for which the number of labels left is estimated")
    seed: int = setting(0, "seed of everything that is sampled at random")
    device: str = setting("cpu", "where networks are trained: cpu, cuda, cuda:1, …")
    training: Training = LABEL_TRAINING

    def __post_init__(self) -> None:
        for name in ("candidates", "first", "batch", "votes"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more (got {getattr(self, name)})")
        if not 0 <= self.holdout <= 0.5:
            raise SettingError(
                "holdout", f"must be at least 0 and at most 0.5 (got {self.holdout})"
            )
        if not 0 < self.target < 1:
            raise SettingError("target", f"must be above 0 and below 1 (got {self.target})")
        if self.training.unlabelled == "spreading":
            raise SettingError(
                "unlabelled",
                "must not be spreading here: labels always spread to similar images on the features"
                " of a backbone",
            )
        if not self.lease > 0:
            raise SettingError("lease", f"must be more than 0 seconds (got {self.lease})")
        if self.seed < 0:
            raise SettingError("seed", f"must be 0 or more (got {self.seed})")

    def strategy_on(self, backbone: str) -> str:
        """Return the strategy's name where networks learn from these features, or from none."""
        if self.strategy != AUTO:
            return self.strategy
        on_pixels = {NO_BACKBONE: PIXEL_STRATEGY, EVERY_IMAGE: EVERY_IMAGE_STRATEGY}
        return on_pixels.get(backbone, FEATURE_STRATEGY)

    @property
    def learns_from_every_image(self) -> bool:
        """Return whether networks on pixels may be trained on unlabelled images in idle time."""
        return (
            not self.labels_only
            and self.backbone in {AUTO, NO_BACKBONE}
            and self.model in NETWORKS
            and not self.fit
            and not self.training.learns_consistency
        )

    @property
    def first_backbone(self) -> str:
        """Return whose features are learnt from before anything is compared."""
        is_spread = self.backbone == NO_BACKBONE and self.learns_from_every_image
        return PIXELS if is_spread else self.backbone

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
        # Sessions of earlier versions learnt from pixels, or from labels alone, and go on so.
        earlier = {"backbone": NO_BACKBONE, "labels_only": True}
        settings = {**earlier, **stored, "training": Training(**stored["training"])}
        check_types(cls, settings)
        if (
            settings.get("channels", 0) not in {0, 1, 3}
            or not 0 <= settings.get("size", 0) <= LARGEST_SIDE
        ):
            raise ValueError("no image has this size")
        return replace(cls(), **settings)
