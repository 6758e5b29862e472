"""The settings of a trial, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass
from typing import Any

from dfal.arguments import check_fields, kind_of
from dfal.errors import DfalError, SettingError
from dfal.fields import setting
from dfal.nn import NETWORKS
from dfal.nn.training_settings import Training


@dataclass(frozen=True)
class TrialSettings:
    """The fields of `Trial`, in their order; it sets the default of `strategy`."""

    dataset: str = setting(
        "mnist-5k",
        "data set: a name that `dfal data` lists, a FILE.npz with images and labels, or a FOLDER of"
        " images",
    )
    model: str = setting(
        "lenet5",
        f"network: {', '.join(NETWORKS)}, or your own package.module:function, which is called as"
        " function(image=(c, h, w), classes=n) and returns an nn.Module of logits",
    )
    strategy: Any = None
    annotations: int = setting(100, "images labelled in all, with the first ones (N)")
    batch: int = setting(10, "images queried in each round (n_query)")
    first: int = setting(10, "images labelled before the first round, sampled at random")
    seed: int = 0
    training: Training = Training()
    device: str = setting("cpu", "where networks are trained: cpu, cuda, cuda:1, …")

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.training, Training):
            raise DfalError(
                f"training must be a dfal.Training, but it is {kind_of(self.training)}: give"
                " dfal.Training()"
            )
        for name in ("batch", "first"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more images (got {getattr(self, name)})")
        if self.annotations < self.first:
            raise SettingError(
                "annotations",
                f"must not be fewer than the first {self.first} (got {self.annotations})",
            )
        if self.seed < 0:
            raise SettingError("seed", f"must be 0 or more (got {self.seed})")
