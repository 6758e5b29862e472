"""The fast gradient sign method, for comparison with DeepFool.

Source: Goodfellow, Shlens & Szegedy: Explaining and harnessing adversarial examples. ICLR 2015.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.attacks.preparation import prepared
from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.nn.inference import backward_errors, check_finite, differentiable_logits, logits
from dfal.nn.passes import images_a_pass
from dfal.query import Perturbation


@dataclass(frozen=True)
class FGSM:
    """Takes one step x + ε sign(∇_x ℓ(x, k̂)) away from the network's own class k̂.

    Its length is fixed, whether or not the class changes.

    Attributes:
        epsilon: ε, the L∞ length of the step in the units of the pixels.
        clip: (lowest, highest) value of a pixel, or None.
        chunk: images worked on at a time, fewer where they are large.
    """

    epsilon: float = 0.1
    clip: tuple[float, float] | None = None
    chunk: int = 128

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise DfalError(
                f"epsilon = {self.epsilon} would not move an image: give a length above 0"
            )

    @default_modes()
    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation:
        """Attack a batch: `distance` is ‖r‖_∞, and inf where the class stays.

        Args:
            model: returns logits, (N, C) or one a row; left as it was.
            images: N images as the network takes them.

        Raises:
            DfalError: for images that the network cannot take, for probabilities in place of
                logits, and for NaN or infinite logits.
        """
        moved, same = [], []
        with prepared(model, images) as (network, clean):
            for chunk in clean.split(images_a_pass(clean, self.chunk)):
                x = chunk.detach().requires_grad_()
                f = check_finite(differentiable_logits(network, x))
                k = f.argmax(1)
                with torch.enable_grad(), backward_errors():
                    (gradient,) = torch.autograd.grad(F.cross_entropy(f, k, reduction="sum"), x)
                x = x.detach() + self.epsilon * gradient.sign()
                moved.append(x.clamp(*self.clip) if self.clip else x)
                with torch.no_grad():
                    same.append(logits(network, moved[-1]).argmax(1) == k)
        x, fooled = torch.cat(moved), ~torch.cat(same)
        length = (x - clean).flatten(1).abs().amax(1)
        return Perturbation(x, length.where(fooled, torch.inf), fooled)
