"""The steps by which DeepFool moves an image, to look at how it finds the boundary."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.attacks.deepfool import DeepFool
from dfal.attacks.deepfool_state import State
from dfal.attacks.gradients import gradients_of
from dfal.attacks.preparation import prepared
from dfal.nn.evaluation import default_modes
from dfal.nn.inference import check_finite


@dataclass(frozen=True)
class Step:
    """A step of DeepFool: to the nearest boundary of the network linearised at x_i.

    For p = 2 that boundary is the plane at `distance` from x_i whose normal is w.

    Attributes:
        x: x_i, where the network is linearised.
        to: x_{i+1}, where the step leads, with the overshoot of the whole way.
        candidate_class: l̂, the class beyond the plane.
        distance: |f'_l̂| / ‖w'_l̂‖_q, from x_i to the plane.
        w: w'_l̂ = ∇f_l̂ − ∇f_k̂ at x_i.
    """

    x: Float[Tensor, "*image"]
    to: Float[Tensor, "*image"]
    candidate_class: int
    distance: float
    w: Float[Tensor, "*image"]


@default_modes()
def trace(attack: DeepFool, model: nn.Module, image: Float[Tensor, "*image"]) -> list[Step]:
    """Return the steps that DeepFool takes for one image, the first one first.

    The last one leads to the image that the attack returns. Gradients are computed twice, so that
    the attack itself keeps nothing.

    Args:
        attack: says how far, and in which norm.
        model: returns logits, (N, C) or one a row; left as it was.
        image: as the network takes it, without the dimension of the batch.

    Raises:
        DfalError: for an image that the network cannot take, for probabilities in place of logits,
            and for NaN or infinite logits.
    """
    steps = []
    with prepared(model, image.unsqueeze(0)) as (network, x):
        gradients = gradients_of(network, x)
        f = check_finite(gradients.logits(x))
        order = f.argsort(dim=1, descending=True, stable=True)[:, : attack.classes]  # k̂ first
        state = State.start(x, torch.full_like(f[:, 0], torch.inf), order)
        active = torch.zeros(1, dtype=torch.int64, device=x.device)
        while len(active):
            moved = attack._moved(x, state.r)
            _, boundary = attack._boundary(gradients, moved, order)
            active = attack._step(gradients, state, active)
            if len(active):
                place, distance = int(boundary.candidate_class), float(boundary.distance)
                to = attack._moved(x, state.r)
                step = Step(moved[0], to[0], int(order[0, place]), distance, boundary.w[0])
                steps.append(step)
                active = attack._unfinished(gradients, state, active, None)
    return steps
