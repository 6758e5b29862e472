"""DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016): the smallest perturbation that changes the network's class."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.attacks.linear import check_norm, dual, norm, step
from dfal.networks import device_of, finite, logits, looking
from dfal.types import DfalError, Perturbation


@dataclass(frozen=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised network until the class changes (algorithm 2; with one logit or
    two it is algorithm 1). The class to leave is the network's own, so no label is needed.

    `distance` is ‖r̂‖_p with r̂ = Σ r_i; `images` are x + (1 + η) r̂. For an affine classifier the distance is exact.

    Attributes:
        p: the norm, 1 ≤ p ≤ inf.
        overshoot: η, the fraction by which the boundary is overstepped; the network is linearised there too.
        max_steps: images that still have their class after so many steps are not fooled, and infinitely far.
        classes: how many of the most likely classes to consider, the network's own included; None for all.
        clip: (lowest, highest) value of a pixel. Clipping changes the distance, so that by default there is none.
        chunk: images worked on at a time, which bounds the memory.

    Cost: at most (classes − 1) backward and 2 forward passes a step for the images not yet done; usually 2 or 3 steps.
    Memory: the network's activations and four copies of `chunk` images, however many classes there are.
    """

    p: float = 2
    overshoot: float = 0.02
    max_steps: int = 50
    classes: int | None = None
    clip: tuple[float, float] | None = None
    chunk: int = 128

    def __post_init__(self) -> None:
        check_norm(self.p)
        if self.overshoot < 0:
            raise DfalError(f"overshoot = {self.overshoot} would stop before the boundary: give 0 or more")
        if self.max_steps < 1 or self.chunk < 1:
            raise DfalError(f"max_steps = {self.max_steps} and chunk = {self.chunk} must be 1 or more")
        if self.classes is not None and self.classes < 2:
            raise DfalError(f"classes = {self.classes} leaves no class to go to: give 2 or more, or None for all")

    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation:
        """Attack a batch.

        Args:
            model: returns logits, (N, C) or one a row; left as it was.
            images: N images as the network takes them.

        Raises:
            DfalError: for probabilities in place of logits, and for NaN or infinite logits.
        """
        with looking(model):
            parts = [self._chunk(model, part.to(device_of(model))) for part in images.detach().split(self.chunk)]
        return Perturbation(
            torch.cat([part.images for part in parts]),
            torch.cat([part.distance for part in parts]),
            torch.cat([part.fooled for part in parts]),
        )

    def _chunk(self, model: nn.Module, x0: Tensor) -> Perturbation:
        with torch.no_grad():
            f = finite(logits(model, x0))
        order = f.argsort(dim=1, descending=True, stable=True)[:, : self.classes]  # k̂ first
        r = torch.zeros_like(x0)  # r̂ = Σ r_i
        fooled = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        active = torch.arange(len(x0), device=x0.device)
        for _ in range(self.max_steps):
            r_i, possible = self._step(model, self._moved(x0[active], r[active]), order[active])
            active = active[possible]
            r[active] += r_i[possible]
            with torch.no_grad():
                f = logits(model, self._moved(x0[active], r[active]))
            left = f.isfinite().all(1) & (f.argmax(1) != order[active, 0])
            fooled[active[left]] = True
            active = active[~left]
            if not len(active):
                break
        distance = norm(self._moved(x0, r, overshoot=0) - x0 if self.clip else r, self.p)
        return Perturbation(self._moved(x0, r), distance.where(fooled, torch.inf), fooled)

    def _moved(self, x0: Tensor, r: Tensor, overshoot: float | None = None) -> Tensor:
        """The image moved to x + (1 + η) r, clipped where asked for."""
        x = x0 + (1 + (self.overshoot if overshoot is None else overshoot)) * r
        return x.clamp(*self.clip) if self.clip else x

    def _step(self, model: nn.Module, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """r_i: the step to the nearest boundary of the network linearised at x, and for which images there is one."""
        x.requires_grad_()
        with torch.enable_grad():
            f = logits(model, x)
            gaps = f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])  # f'_k = f_k − f_k̂
        # A step has a least length, so that an image on the boundary, where f' = 0, does leave it.
        tiny = 64 * torch.finfo(x.dtype).eps
        least_gap = tiny * f.detach().abs().amax(1)

        nearest = torch.full_like(least_gap, torch.inf)  # |f'_l̂| / ‖w'_l̂‖_q
        w_nearest = torch.ones_like(x)
        for k in range(gaps.shape[1]):
            last = k == gaps.shape[1] - 1
            (w,) = torch.autograd.grad(gaps[:, k].sum(), x, retain_graph=not last)  # w'_k = ∇f_k − ∇f_k̂
            length = torch.maximum(gaps[:, k].detach().abs(), least_gap) / norm(w, dual(self.p))
            nearer = length < nearest  # false for NaN
            nearest = length.where(nearer, nearest)
            w_nearest = w.where(_rows(nearer, w), w_nearest)
        possible = nearest.isfinite()
        return step(nearest.where(possible, 0).clamp(min=tiny), w_nearest, self.p), possible


def _rows(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (like.ndim - 1))
