"""The settings of a trial, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass
from typing import Any

from dfal.arguments import check_fields, kind_of
from dfal.errors import DfalError
from dfal.fields import setting
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
        "network: lenet5, vgg8, or your own package.module:function, which is called as"
        " function(image=(c, h, w), classes=n) and returns an nn.Module of logits",
    )
    strategy: Any = None
    annotations: int = setting(100, "N: images labelled in all, the first ones included")
    batch: int = setting(10, "n_query: images asked about in a round")
    first: int = setting(10, "images labelled before the first round, drawn at random")
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
        if self.batch < 1 or self.first < 1:
            raise DfalError(
                f"batch = {self.batch} and first = {self.first} must be 1 or more images"
            )
        if self.annotations < self.first:
            raise DfalError(
                f"annotations = {self.annotations} must not be fewer than the first {self.first}"
            )
        if self.seed < 0:
            raise DfalError(f"seed = {self.seed} must be 0 or more")
