"""Attacks: how far an image is from the decision boundary.

Each attack is one file of this package and one line in `ATTACKS`.
"""

from typing import TYPE_CHECKING, Any

from dfal.lazy import lazy_names
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from dfal.attacks.affine import LinearHead
    from dfal.attacks.deepfool import DeepFool
    from dfal.attacks.fgsm import FGSM
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.attacks.affine": "LinearHead",
            "dfal.attacks.deepfool": "DeepFool",
            "dfal.attacks.fgsm": "FGSM",
        },
    )

__all__ = ["ATTACKS", "FGSM", "DeepFool", "LinearHead"]

ATTACKS: Registry[Any] = Registry(
    "attack",
    {
        "deepfool": Entry(
            "dfal.attacks.deepfool:DeepFool", "shortest change of an image that changes its class"
        ),
        "fgsm": Entry("dfal.attacks.fgsm:FGSM", "one step along the sign of the gradient"),
        "linear-head": Entry(
            "dfal.attacks.affine:LinearHead",
            "exact distance in the space of the features",
        ),
    },
)
"""Name of an attack → its class, which is called without arguments for its default settings."""
