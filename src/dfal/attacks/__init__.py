"""How far is it to the boundary? One attack a file."""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names

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

__all__ = ["FGSM", "DeepFool", "LinearHead"]
