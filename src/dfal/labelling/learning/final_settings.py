"""The settings of a final model, without PyTorch: the command line reads its options from them."""

from dataclasses import dataclass

from dfal.errors import SettingError, unknown_name
from dfal.fields import setting
from dfal.labelling.settings import AUTO
from dfal.nn import AUGMENTATIONS, check_size

AUGMENTATION_NAMES = (AUTO, *AUGMENTATIONS)


@dataclass(frozen=True)
class FinalSettings:
    """How a final model is trained.

    Attributes:
        fine_tune: whether the whole network is trained further where that is better; None: where
            there is time for it.
        model: the `package.module:function` of the session's network, if its code may be run.
    """

    backbone: str = setting(
        "",
        "pretrained network, as of dfal label, or none; by default what the session learns from",
    )
    size: int = setting(
        0,
        "side in pixels of the images that networks receive; 0 for that of the backbone or the"
        " session",
    )
    fit: str = setting(
        "",
        "your own training, package.module:function, of a network from scratch; as of dfal label",
    )
    augment: str = setting(
        AUTO,
        "random changes of images in training: photographs (mirrored, cut, in other light), shapes"
        " (turned, stretched, bent), drawings (mirrored, too), none, or auto: photographs where"
        " mirrored images are recognised as well as the others",
    )
    labels_only: bool = setting(
        False, "compare no network from scratch that learns from images without a label, too"
    )
    epochs: int = setting(15, "passes over the labelled images in which a backbone is fine-tuned")
    minutes: float = setting(
        15.0, "fine-tune only if it is expected to take at most so many minutes"
    )
    device: str = setting("", "where to train: cpu, cuda, …; by default a GPU if there is one")
    seed: int = setting(0, "seed of everything that is drawn at random")
    fine_tune: bool | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.augment not in AUGMENTATION_NAMES:
            raise unknown_name("augmentation", self.augment, AUGMENTATION_NAMES)
        check_size(self.size)
        if self.epochs < 1:
            raise SettingError("epochs", f"must be 1 or more (got {self.epochs})")
        if not self.minutes > 0:
            raise SettingError("minutes", f"must be more than 0 (got {self.minutes})")
        if self.seed < 0:
            raise SettingError("seed", f"must be 0 or more (got {self.seed})")
