"""How far is it to the boundary? One attack a file."""

from dfal.attacks.deepfool import DeepFool
from dfal.attacks.fgsm import FGSM
from dfal.attacks.linear import LinearHead

__all__ = ["FGSM", "DeepFool", "LinearHead"]
