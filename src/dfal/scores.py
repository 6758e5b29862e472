"""Pure functions from logits to scores. Logits come in, so that nothing is lost to a saturated softmax."""

import torch
from jaxtyping import Float
from torch import Tensor


def entropy(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """−Σ_y p(y|x) log p(y|x), in nats. 0 · log 0 is 0, so that a certain image scores 0 and not NaN."""
    p = f.softmax(1)
    return -torch.xlogy(p, p).sum(1)


def margin(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """p(y₁|x) − p(y₂|x) of the two likeliest classes: small where the network hesitates."""
    best = f.softmax(1).topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def confidence(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """max_y p(y|x)."""
    return f.softmax(1).amax(1)
