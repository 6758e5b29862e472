"""The settings of a trial, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass
from typing import Any

from dfal.arguments import check_fields, kind_of
from dfal.backbones import BACKBONES
from dfal.data.sources.registry import SOURCES
from dfal.errors import DfalError, SettingError
from dfal.fields import added, setting
from dfal.nn import NETWORKS, check_size
from dfal.nn.training_settings import Training

AUTO = "lite2"
"""The backbone that `auto` stands for."""

FIRST_BY = ("random", "typical", "simclr")
"""How the first images are chosen."""
START_FROM = ("random", "simclr")
"""The weights that trainings from scratch begin with."""


@dataclass(frozen=True)
class TrialSettings:
    """The fields of `Trial`, in their order; it sets the default of `strategy`."""

    dataset: str = setting(
        "mnist-5k",
        "data set: a name that `dfal data` lists, a FILE.npz with images and labels, or images of"
        f" your own as {SOURCES.forms}; files also as addresses, such as s3://bucket/photos",
    )
    model: str = setting(
        "lenet5",
        f"network: {', '.join(NETWORKS)}, or your own package.module:function, which is called as"
        " function(image=(c, h, w), classes=n) and returns an nn.Module of logits",
    )
    strategy: Any = None
    annotations: int = setting(100, "images labelled in all, with the first ones (N)")
    batch: int = setting(10, "images queried in each round (n_query)")
    first: int = setting(10, "images labelled before the first round")
    seed: int = 0
    training: Training = Training()
    device: str = setting("cpu", "where networks are trained: cpu, cuda, cuda:1, …")
    backbone: str = added(
        "",
        "pretrained network whose features take the place of the images, computed once:"
        f" {', '.join(BACKBONES)}, auto for {AUTO}, or your own package.module:function; trained on"
        " them is a linear layer, unless --model names another network that takes features",
    )
    size: int = added(
        0,
        "side in pixels to which images are resized, for the backbone or else for the network; 0:"
        " as the backbone takes them, or as the data set has them",
    )
    first_by: str = added(
        "random",
        "how the first images are chosen: random; typical, from clusters of their pixels, so that"
        " more classes are among them; or simclr, from clusters of the features that --start-from"
        " simclr learns",
    )
    fit: str = added(
        "",
        "your own training, package.module:function, which is called as (make, data, seed) and"
        " returns the trained network",
    )
    coverage: float = added(
        0.0,
        "fraction of each query that is chosen by coverage instead of the strategy: typical images"
        " of clusters of the pixels with the fewest labels, for rare classes",
    )
    start_from: str = added(
        "random",
        "weights that a training from scratch begins with: random, or simclr, by which what comes"
        " before the features is learnt from all images once, without labels",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        self._set_backbone()
        if not isinstance(self.training, Training):
            raise DfalError(
                f"training must be a dfal.Training, but it is {kind_of(self.training)}: give"
                " dfal.Training()"
            )
        if self.fit and self.training != Training():
            raise DfalError(
                f"the training {self.fit} has no use for the settings of dfal's own: leave out"
                f" {self.training}"
            )
        self._check_training()
        for name in ("batch", "first"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more images (got {getattr(self, name)})")
        if self.annotations < self.first:
            raise SettingError(
                "annotations",
                f"must not be fewer than the first {self.first} (got {self.annotations})",
            )
        for name, among in (("first_by", FIRST_BY), ("start_from", START_FROM)):
            value = getattr(self, name)
            if value not in among:
                raise SettingError(name, f"must be {' or '.join(among)} (got {value!r})")
            if value == "simclr" and self.backbone:
                raise SettingError(name, "must not be simclr with --backbone, which is pretrained")
        if not 0 <= self.coverage <= 1:
            raise SettingError("coverage", f"must be 0 to 1 (got {self.coverage})")
        if self.seed < 0:
            raise SettingError("seed", f"must be 0 or more (got {self.seed})")
        check_size(self.size)

    def _check_training(self) -> None:
        """Check that the training fits the network and what it takes.

        Raises:
            SettingError: where it does not.
        """
        unlabelled, augment = self.training.unlabelled, self.training.augment
        if unlabelled == "spreading" and not self.backbone:
            raise SettingError(
                "unlabelled",
                "must not be spreading without --backbone: labels spread between images whose"
                " features are alike",
            )
        if unlabelled == "spreading" and self.model != "linear":
            raise SettingError(
                "unlabelled",
                f"must not be spreading with the network {self.model}: labels that spread train the"
                " network linear",
            )
        if augment not in {"none", "auto"} and self.backbone:
            raise SettingError(
                "augment",
                f"must be none with --backbone (got {augment}): features are computed once",
            )

    @property
    def features(self) -> str:
        """Return the backbone, with its size where it is not its own; empty without a backbone."""
        return self.backbone and f"{self.backbone}{self._side}"

    @property
    def network(self) -> str:
        """Return the network, with the features or the size of the images that it takes."""
        return f"{self.model} on {self.features}" if self.backbone else f"{self.model}{self._side}"

    @property
    def _side(self) -> str:
        return f" at {self.size} pixels" if self.size else ""

    def _set_backbone(self) -> None:
        """Name the backbone and the network in the form that is stored."""
        stored = {"auto": AUTO, "none": ""}.get(self.backbone, self.backbone)
        object.__setattr__(self, "backbone", stored)
        if stored and self.model == TrialSettings.model:  # it takes no features
            object.__setattr__(self, "model", "linear")
