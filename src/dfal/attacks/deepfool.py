"""DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016): the smallest perturbation that changes the network's class."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.attacks.linear import check_norm, dual, norm, step
from dfal.attacks.slopes import Slopes, slopes
from dfal.networks import device_of, finite, looking
from dfal.types import DfalError, Perturbation


class Race:
    """The n smallest distances that were found so far.

    Attributes:
        exact: whether an image stays in the race until it is certain not to be among the nearest.
        limit: the largest of the n distances; inf as long as there are fewer.
    """

    def __init__(self, n: int, *, exact: bool):
        self.n, self.exact, self.limit = n, exact, torch.inf
        self._best = torch.empty(0)

    def add(self, distances: Float[Tensor, "m"]) -> None:
        """Let these distances take part."""
        self._best = torch.cat([self._best, distances.cpu()]).sort().values[: self.n]
        if 0 < self.n == len(self._best):
            self.limit = float(self._best[-1])


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
    Memory: four copies of the images and the network's activations for `chunk` of them; a chain of known layers on the CPU
    (`dfal.chain`) has (classes − 1) gradients for each of these, too.
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
        return self._attack(model, images.detach(), None)

    def nearest(self, model: nn.Module, images: Float[Tensor, "n *image"], race: Race) -> Perturbation:
        """Attack a batch of which only those that are among the nearest of a race matter.

        Others may be given up: they are then not fooled and infinitely far. An image is given up when no perturbation
        shorter than the race's limit can change its class (see `Slopes.certain`), and, unless the race is exact, when its
        own has become longer than that on its way. The latter could be wrong: r̂ is a sum, and a later step may make it
        shorter again.
        """
        return self._attack(model, images.detach(), race)

    def _attack(self, model: nn.Module, images: Tensor, race: Race | None) -> Perturbation:
        moved = images.to(device_of(model), copy=True)
        distance = torch.full((len(moved),), torch.inf, dtype=moved.dtype, device=moved.device)
        with looking(model):
            if not len(moved):
                return Perturbation(moved, distance, distance.isfinite())
            view = slopes(model, moved[:1])
            f = torch.cat([finite(view.logits(part)) for part in moved.split(self.chunk)])
            order = torch.arange(len(moved), device=moved.device) if race is None else _margins(f).argsort()
            for rows in order.split(self.chunk):
                if race is not None and race.limit < torch.inf:  # the moved image lies (1 + η) ‖r̂‖_p away
                    rows = rows[view.certain(f[rows], self.p) <= (1 + self.overshoot) * race.limit]  # noqa: PLW2901
                moved[rows], distance[rows] = self._chunk(view, moved[rows], f[rows], race)
        return Perturbation(moved, distance, distance.isfinite())

    def _chunk(self, view: Slopes, x0: Tensor, f: Tensor, race: Race | None) -> tuple[Tensor, Tensor]:
        """The moved images and the distances, inf for those that are not fooled."""
        order = f.argsort(dim=1, descending=True, stable=True)[:, : self.classes]  # k̂ first
        r = torch.zeros_like(x0)  # r̂ = Σ r_i
        distance = torch.full_like(f[:, 0], torch.inf)
        active = torch.arange(len(x0), device=x0.device)
        for _ in range(self.max_steps if len(active) else 0):
            r_i, possible = self._step(view, self._moved(x0[active], r[active]), order[active])
            active = active[possible]
            if not len(active):
                break
            r[active] += r_i[possible]
            f = view.logits(self._moved(x0[active], r[active]))
            left = f.isfinite().all(1) & (f.argmax(1) != order[active, 0])
            length = norm(self._moved(x0[active], r[active], overshoot=0) - x0[active] if self.clip else r[active], self.p)
            distance[active[left]] = length[left]
            going = ~left
            if race is not None:
                race.add(length[left])
                going &= (length <= race.limit) | race.exact
            active = active[going]
            if not len(active):
                break
        return self._moved(x0, r), distance

    def _moved(self, x0: Tensor, r: Tensor, overshoot: float | None = None) -> Tensor:
        """The image moved to x + (1 + η) r, clipped where asked for."""
        x = x0 + (1 + (self.overshoot if overshoot is None else overshoot)) * r
        return x.clamp(*self.clip) if self.clip else x

    def _step(self, view: Slopes, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """r_i: the step to the nearest boundary of the network linearised at x, and for which images there is one."""
        f, slopes_between = view.between(x, order)
        gaps = (f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])).abs()  # |f'_k| = |f_k − f_k̂|
        # A step has a least length, so that an image on the boundary, where f' = 0, does leave it.
        tiny = 64 * torch.finfo(x.dtype).eps
        least_gap = tiny * f.abs().amax(1)

        nearest = torch.full_like(least_gap, torch.inf)  # |f'_l̂| / ‖w'_l̂‖_q
        w_nearest = torch.ones_like(x)
        for classes, w in slopes_between:  # w'_k = ∇f_k − ∇f_k̂
            lengths = torch.maximum(gaps[:, classes].T, least_gap) / norm(w, dual(self.p), rows=2)
            length, near = lengths.nan_to_num(torch.inf, torch.inf).min(0)
            nearer = length < nearest
            nearest = length.where(nearer, nearest)
            w_nearest[nearer] = w[near[nearer], nearer.nonzero().squeeze(1)]
        possible = nearest.isfinite()
        return step(nearest.where(possible, 0).clamp(min=tiny), w_nearest, self.p), possible


def _margins(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    best = f.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]
