"""Scores of images, as pure functions of logits.

Logits come in rather than probabilities, so that nothing is lost to a saturated softmax.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def entropy(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the entropy −Σ_y p(y|x) log p(y|x) of each image, in nats.

    0 · log 0 is 0, so that a certain image scores 0 and not NaN.
    """
    p = f.softmax(1)
    return -torch.xlogy(p, p).sum(1)


def unguarded_entropy(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the entropy with 0 · log 0 = NaN, a fault of released code kept to measure its effect.

    In nats, as `entropy`.
    """
    p = f.softmax(1)
    return -(p * p.log()).sum(1)


def margin(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the margin p(y₁|x) − p(y₂|x) of the two most probable classes of each image."""
    top = f.softmax(1).topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def confidence(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the probability max_y p(y|x) of each image's predicted class."""
    return f.softmax(1).amax(1)


def mutual_information(f: Float[Tensor, "t n c"]) -> Float[Tensor, "n"]:
    """Return I(y; ω | x) = H(mean_ω p(y|x, ω)) − mean_ω H(p(y|x, ω)) of class and weights, in nats.

    Args:
        f: logits of n images under t networks ω.

    Returns:
        One value an image, never below 0, as it is without rounding.

    Source: Houlsby et al. 2011; Gal, Islam & Ghahramani 2017, equation 2.
    """
    p = f.softmax(2)
    mean = p.mean(0)
    return (torch.xlogy(p, p).sum(2).mean(0) - torch.xlogy(mean, mean).sum(1)).clamp(min=0)


def head_gradient_length(
    f: Float[Tensor, "n c"], x: Float[Tensor, "n d"], *, bias: bool = True
) -> Float[Tensor, "n"]:
    """Return the expected gradient length over a last linear layer, Σ_y p_y ‖p − e_y‖ √(‖x‖² + 1).

    It equals Σ_y p(y|x) ‖∇ℓ(x, y)‖₂ with the cross-entropy ℓ, whose gradient with respect to the
    logits f is p − e_y.

    Args:
        f: logits.
        x: the layer's inputs.
        bias: whether the layer has a bias, which is the 1 below the root.
    """
    p = f.softmax(1)
    # ‖p − e_y‖² = ‖p‖² − 2 p_y + 1, written so that nothing cancels where p_y is nearly 1.
    others = p.square().sum(1, keepdim=True) - p.square()
    rest = p.sum(1, keepdim=True) - p
    lengths = (others + rest.square()).clamp(min=0).sqrt()
    return (p * lengths).sum(1) * (x.square().sum(1) + bias).sqrt()
