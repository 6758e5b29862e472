"""What DeepFool knows of each image on its way."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dfal.attacks.gradients import LogitGradients

MIN_SINGLE_CLASS = 3
"""Classes up to which the gradients of all are computed in each step, as that takes no more
backward passes than to try one class and to prove the others farther."""


@dataclass(frozen=True)
class State:
    """How far each of n images is on its way; changed in place.

    Attributes:
        x: the images as they came.
        distance: ‖r̂‖_p of those that are fooled, inf for others.
        order: the classes to consider, the image's own first.
        r: r̂ = Σ r_i.
        steps: how many there were.
        candidate_class: the place in `order` of the class that the last step went to.
        least_length: the length of a step at least.
    """

    x: Float[Tensor, "n *image"]
    distance: Float[Tensor, "n"]
    order: Int64[Tensor, "n k"]
    r: Float[Tensor, "n *image"]
    steps: Int64[Tensor, "n"]
    candidate_class: Int64[Tensor, "n"]
    least_length: Float[Tensor, "n"]

    @classmethod
    def start(cls, x: Tensor, distance: Tensor, order: Tensor) -> "State":
        """Return the state before the first step."""
        none = torch.zeros_like(order[:, 0])
        return cls(x, distance, order, torch.zeros_like(x), none, none.clone(), least_length(x))

    def raise_least_length(self, active: Tensor, moved: Tensor) -> Float[Tensor, "a"]:
        """Return the least length of the next step of active images, which lie at `moved`.

        It follows their largest pixel: a dark image is brighter once it was moved.
        """
        most = 64 * torch.finfo(moved.dtype).eps
        least = torch.maximum(self.least_length[active], least_length(moved).clamp(max=most))
        self.least_length[active] = least
        return least

    def single_class(self, active: Tensor) -> Int64[Tensor, "a"]:
        """Return the place of the class that the last step of active images went to.

        It is 0 before the first step, and where so few classes are considered that to try it alone
        saves nothing.
        """
        tried: Tensor = self.candidate_class[active] * (self.steps[active] > 0)
        return tried if self.order.shape[1] > MIN_SINGLE_CLASS else torch.zeros_like(tried)


@dataclass(frozen=True)
class Boundary:
    """The nearest boundary of the network linearised at each of n images.

    Attributes:
        distance: |f'_l̂| / ‖w'_l̂‖_q; inf where there is no boundary.
        candidate_class: the place of l̂ in the order of the classes; 0 where there is no boundary.
        w: w'_l̂.
    """

    distance: Float[Tensor, "n"]
    candidate_class: Int64[Tensor, "n"]
    w: Float[Tensor, "n *image"]

    def put(self, places: Int64[Tensor, "m"], boundary: "Boundary") -> None:
        """Set what is known of the images at these places."""
        self.distance[places] = boundary.distance
        self.candidate_class[places] = boundary.candidate_class
        self.w[places] = boundary.w


def least_length(x: Float[Tensor, "n *image"]) -> Float[Tensor, "n"]:
    """Return a length that is felt at the scale of an image's pixels.

    It is 64 machine epsilons for pixels about 1; the scale is that of the largest pixel, to the
    nearest power of 256.
    """
    largest = x.flatten(1).abs().amax(1)
    powers = largest.where(largest > 0, 1).log2().div(8).round().clamp(-8, 8)
    return 64 * torch.finfo(x.dtype).eps * torch.exp2(8 * powers)


def gaps_of(
    network: LogitGradients, f: Float[Tensor, "n c"], order: Int64[Tensor, "n k"]
) -> Float[Tensor, "n k-1"]:
    """Return |f'_k| = |f_k − f_k̂|, and a least number where it is smaller.

    So a step has a least length, and an image on the boundary, where f' = 0, does leave it. Where a
    network rounds its logits to half precision, f' = 0 on both sides of the boundary, half a
    rounding wide.
    """
    least = 4 * rounding_of(f)
    if network.rounding > 0:
        least = torch.maximum(least, network.rounding / 2 * f.abs().amax(1))
    gaps = (f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])).abs()
    return torch.maximum(gaps, least.unsqueeze(1))


def rounding_of(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return by how much a difference of logits may change with the size of the batch alone."""
    return 4 * torch.finfo(f.dtype).eps * f.abs().amax(1)
