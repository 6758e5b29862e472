"""Pure functions from logits to scores. Logits come in, so that nothing is lost to a saturated
softmax."""

import torch
from jaxtyping import Float
from torch import Tensor


def entropy(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """−Σ_y p(y|x) log p(y|x), in nats. 0 · log 0 is 0, so that a certain image scores 0 and not
    NaN."""
    p = f.softmax(1)
    return -torch.xlogy(p, p).sum(1)


def unguarded_entropy(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """−Σ_y p(y|x) log p(y|x) with 0 · log 0 = NaN: a known fault of released code, kept to measure
    what it does."""
    p = f.softmax(1)
    return -(p * p.log()).sum(1)


def margin(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """p(y₁|x) − p(y₂|x) of the two likeliest classes: small where the network hesitates."""
    best = f.softmax(1).topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def confidence(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """max_y p(y|x)."""
    return f.softmax(1).amax(1)


def mutual_information(f: Float[Tensor, "t n c"]) -> Float[Tensor, "n"]:
    """H(mean_ω p(y|x, ω)) − mean_ω H(p(y|x, ω)), in nats, over t networks ω: what y would tell
    about ω (BALD).

    Houlsby et al. 2011; Gal, Islam & Ghahramani 2017, equation 2. Never below 0, as it is without
    rounding.
    """
    p = f.softmax(2)
    mean = p.mean(0)
    return (torch.xlogy(p, p).sum(2).mean(0) - torch.xlogy(mean, mean).sum(1)).clamp(min=0)


def head_gradient_length(
    f: Float[Tensor, "n c"], x: Float[Tensor, "n d"], *, bias: bool = True
) -> Float[Tensor, "n"]:
    """Σ_y p(y|x) ‖∇ℓ(x, y)‖₂ over weights and biases of a last linear layer with input x: Σ_y p_y
    ‖p − e_y‖ √(‖x‖² + 1).

    ℓ is the cross-entropy, whose gradient with respect to the logits f is p − e_y.
    """
    p = f.softmax(1)
    # ‖p − e_y‖² = ‖p‖² − 2 p_y + 1, written so that nothing cancels where p_y is nearly 1.
    others = p.square().sum(1, keepdim=True) - p.square()
    rest = p.sum(1, keepdim=True) - p
    lengths = (others + rest.square()).clamp(min=0).sqrt()
    return (p * lengths).sum(1) * (x.square().sum(1) + bias).sqrt()
