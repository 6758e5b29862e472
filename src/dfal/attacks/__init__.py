"""How far is it to the boundary? One attack a file."""

from dfal.attacks.affine import LinearHead
from dfal.attacks.deepfool import DeepFool
from dfal.attacks.fgsm import FGSM

__all__ = ["FGSM", "DeepFool", "LinearHead"]
