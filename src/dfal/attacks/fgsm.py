"""The fast gradient sign method (Goodfellow, Shlens, Szegedy, ICLR 2015), for comparison with
DeepFool."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.errors import DfalError
from dfal.nn.inference import (
    at_least_float32,
    backward_errors,
    check_finite,
    check_input,
    default_modes,
    differentiable_logits,
    frozen_eval,
    logits,
    prepare_images,
    shape_errors,
)
from dfal.query import Perturbation


@dataclass(frozen=True)
class FGSM:
    """One step x + ε sign(∇_x ℓ(x, k̂)) away from the network's own class k̂: a fixed length, found
    or not.

    Attributes:
        epsilon: ε, the L∞ length of the step in the units of the pixels.
        clip: (lowest, highest) value of a pixel, or None.
        chunk: images worked on at a time.
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
        """Attack a batch: `distance` is ‖r‖_∞, and inf where the class stays."""
        moved, same = [], []
        check_input(model, images)
        with frozen_eval(model, images[:1]) as network, shape_errors(images):
            images = at_least_float32(prepare_images(network, images)).detach()
            for part in images.split(self.chunk):
                x = part.clone().requires_grad_()
                f = check_finite(differentiable_logits(network, x))
                k = f.argmax(1)
                with torch.enable_grad(), backward_errors():
                    (gradient,) = torch.autograd.grad(F.cross_entropy(f, k, reduction="sum"), x)
                x = x.detach() + self.epsilon * gradient.sign()
                moved.append(x.clamp(*self.clip) if self.clip else x)
                with torch.no_grad():
                    same.append(logits(network, moved[-1]).argmax(1) == k)
        found, kept = torch.cat(moved), torch.cat(same)
        length = (found - images).flatten(1).abs().amax(1)
        return Perturbation(found, length.where(~kept, torch.inf), ~kept)
