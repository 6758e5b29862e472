"""Several networks that predict by the mean of their class probabilities."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.nn.features import head_name
from dfal.nn.inference import logits


class Ensemble(nn.Module):
    """Networks whose logits together are log (1/m Σ_i softmax f_i).

    Its features are those of the last member.

    Args:
        members: networks of the same classes.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)
        if name := head_name(members[-1]):
            self.features_before = f"members.{len(members) - 1}.{name}"

    def forward(self, images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        """Return the logarithm of the mean probability of each class."""
        logs = torch.stack([logits(member, images).log_softmax(1) for member in self.members])
        return logs.logsumexp(0) - math.log(len(self.members))


def member_weights(weights: Mapping[str, Tensor], member: int) -> dict[str, Tensor]:
    """Return the `state_dict` of one member out of that of an ensemble."""
    prefix = f"members.{member}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
