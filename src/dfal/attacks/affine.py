"""The distance to the boundary of an affine classifier in closed form, and the step over it.

DeepFool takes one such step after another.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.nn.features import affine_last_linear
from dfal.nn.network_input import check_input
from dfal.query import Perturbation


def check_norm(p: float) -> None:
    """Check that p is a norm: 1 ≤ p ≤ ∞.

    Raises:
        DfalError: where it is not.
    """
    if not p >= 1:
        raise DfalError(f"p = {p} is not a norm: give 1 ≤ p ≤ inf")


def norm(r: Float[Tensor, "*rows"], p: float, rows: int = 1) -> Float[Tensor, "*lengths"]:
    """Return ‖r‖_p of each row, that is, of each place in the first `rows` dimensions."""
    shape = tuple(range(rows, r.ndim))
    length: Tensor
    if p in {1, 2, torch.inf}:
        length = torch.linalg.vector_norm(r, ord=p, dim=shape)
        return length
    # |r|^p under- or overflows for large p, so r is scaled to a largest entry of 1 first.
    largest = norm(r, torch.inf, rows).clamp(min=torch.finfo(r.dtype).tiny)
    length = torch.linalg.vector_norm(
        r / largest.view(*r.shape[:rows], *[1] * len(shape)), ord=p, dim=shape
    )
    return largest * length


def dual(p: float) -> float:
    """Return the q with 1/p + 1/q = 1.

    |⟨w, r⟩| ≤ ‖w‖_q ‖r‖_p, with equality for the shortest step.
    """
    return torch.inf if p == 1 else 1.0 if p == torch.inf else p / (p - 1)


def step(
    length: Float[Tensor, "n"], w: Float[Tensor, "n *shape"], p: float
) -> Float[Tensor, "n *shape"]:
    """Return the step r of ‖r‖_p = length with the largest ⟨w, r⟩.

    It is length / ‖w‖_q^(q−1) · |w|^(q−1) ⊙ sign(w), for w ≠ 0.

    Args:
        length: of each step.
        w: a gradient for each image.
        p: the norm.

    Source:
        Moosavi-Dezfooli, Fawzi & Frossard: DeepFool. CVPR 2016, the closed form for affine
        classifiers and its extension to other p.
    """
    flat = w.flatten(1)
    if p == 2:
        direction = flat / norm(flat, 2).unsqueeze(1)
    elif p == torch.inf:
        direction = flat.sign()
    elif p == 1:
        largest = flat.abs().argmax(1, keepdim=True)
        direction = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
    else:
        # |w|^(q−1) overflows for p near 1, so w is scaled to a largest entry of 1 first.
        u = flat / norm(flat, torch.inf).unsqueeze(1)
        direction = u.abs() ** (dual(p) - 1) * u.sign()
        direction = direction / norm(direction, p).unsqueeze(1)
    return (length.unsqueeze(1) * direction).view_as(w)


@dataclass(frozen=True)
class LinearHead:
    """Measures the exact distance to the boundary in the space of the features.

    There the network is affine: d = min_k |f_k − f_k̂| / ‖w_k − w_k̂‖_q over the classes k ≠ k̂, with
    w the weights of the last linear layer and k̂ the network's own class. One forward pass, no
    gradients. For an affine classifier this is the distance of the image itself and `images` are
    moved images; for a deeper network `images` are moved features, which are no twins.

    Attributes:
        p: the norm, 1 ≤ p ≤ inf.
        overshoot: `images` lie (1 + overshoot) · distance away; `distance` is without it.

    Raises:
        DfalError: for a p that is no norm.
    """

    p: float = 2
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        check_norm(self.p)

    @default_modes()
    @torch.no_grad()
    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation:
        """Attack a batch.

        Args:
            model: ends in a linear layer; left as it was.
            images: n images as the network takes them.

        Raises:
            DfalError: where the network ends in something else.
        """
        check_input(model, images)
        last = affine_last_linear(model, images)
        x, f, weight, bias = last.features, last.logits, last.weight, last.bias
        k = f.argmax(1)
        gaps = (f - f.gather(1, k.unsqueeze(1))).abs()
        slopes = torch.empty_like(f)  # ‖w_j − w_k̂‖_q of each class j, computed once for each k̂
        for own in k.unique().tolist():
            slopes[k == own] = norm(weight - weight[own], dual(self.p))
        distances = (gaps / slopes).nan_to_num(torch.inf, torch.inf)
        distance, nearest = distances.scatter(1, k.unsqueeze(1), torch.inf).min(1)
        reached = distance.isfinite()
        w = (weight[nearest] - weight[k]).where(reached.unsqueeze(1), 1)
        r = step(distance.where(reached, 0), w, self.p)
        moved = x + (1 + self.overshoot) * r
        fooled = reached & ((moved @ weight.T + bias).argmax(1) != k)
        if torch.equal(x, images.flatten(1).to(x.device, x.dtype)):
            moved = moved.view_as(images)
        return Perturbation(moved, distance.where(fooled, torch.inf), fooled)
