"""DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016): the smallest perturbation that changes
the network's class."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.attacks.affine import check_norm, dual, norm, step
from dfal.attacks.gradients import Slopes, slopes
from dfal.errors import DfalError
from dfal.nn.inference import (
    at_least_float32,
    check_finite,
    check_input,
    default_modes,
    frozen_eval,
    prepare_images,
    shape_errors,
)
from dfal.query import Perturbation

T = TypeVar("T")

MANY = 1000
"""Images for which it pays to find out within which distance their class is certain: it takes as
long as some hundred."""

LATE = 4
"""Steps after which a gradient is tried for the class of the last step alone: clipped, an image
takes ten steps and more."""

SOME = 100
"""Images that must be so late before it pays to find out how near another class can be at all."""


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
    """Steps to the nearest boundary of the linearised network until the class changes (algorithm 2;
    with one logit or two it is algorithm 1). The class to leave is the network's own, so no label
    is needed.

    `distance` is ‖r̂‖_p with r̂ = Σ r_i; `images` are x + (1 + η) r̂. For an affine classifier the
    distance is exact.

    Attributes:
        p: the norm, 1 ≤ p ≤ inf.
        overshoot: η, the fraction by which the boundary is overstepped; the network is linearised
        there too.
        max_steps: images that still have their class after so many steps are not fooled, and
        infinitely far.
        classes: how many of the most likely classes to consider, the network's own included; None
        for all.
        clip: (lowest, highest) value of a pixel. Clipping changes the distance, so that by default
        there is none.
        chunk: images worked on at a time, which bounds the memory: for each that is done another
        one follows.

    Cost: at most (classes − 1) backward and 2 forward passes a step for the images not yet done;
    usually 2 or 3 steps.
    Memory: two copies of the images, and for `chunk` of them four more and the network's
    activations. A chain of known layers on the CPU (`dfal.nn.fast_sequential`) works on
    `chunk` images a thread,
    with all gradients of 32 of them.
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
            raise DfalError(
                f"overshoot = {self.overshoot} would stop before the boundary: give 0 or more"
            )
        if self.max_steps < 1 or self.chunk < 1:
            raise DfalError(
                f"max_steps = {self.max_steps} and chunk = {self.chunk} must be 1 or more"
            )
        if self.classes is not None and self.classes < 2:
            raise DfalError(
                f"classes = {self.classes} leaves no class to go to: give 2 or more, or None"
                " for all"
            )

    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation:
        """Attack a batch.

        Args:
            model: returns logits, (N, C) or one a row; left as it was.
            images: N images as the network takes them.

        Raises:
            DfalError: for images that the network cannot take, for probabilities in place of
                logits, and for NaN or infinite logits.
        """
        return self._attack(model, images, None)

    def nearest(
        self, model: nn.Module, images: Float[Tensor, "n *image"], race: Race
    ) -> Perturbation:
        """Attack a batch of which only those that are among the nearest of a race matter.

        Others may be given up: they are then not fooled and infinitely far. An image is given up
        when no perturbation shorter than the race's limit can change its class (see
        `Slopes.certain`), and, unless the race is exact, when its own has become longer than that
        on its way. The latter could be wrong: r̂ is a sum, and a later step may make it shorter
        again.
        """
        return self._attack(model, images, race)

    @default_modes()
    def _attack(self, model: nn.Module, images: Tensor, race: Race | None) -> Perturbation:
        check_input(model, images)
        with frozen_eval(model, images[:1]) as network, shape_errors(images):
            x = at_least_float32(prepare_images(network, images)).detach().clone()
            distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
            if len(x):
                view = slopes(network, x[:1])
                # A race is run by one thread, so that who is given up does not depend on who is
                # faster.
                some = -(-len(x) // (view.threads if race is None else 1))
                side_by_side(
                    partial(self._follow, view, race),
                    list(zip(x.split(some), distance.split(some), strict=True)),
                )
        return Perturbation(x, distance, distance.isfinite())

    def _follow(self, view: Slopes, race: Race | None, x: Tensor, distance: Tensor) -> None:
        """Move the images x, and set the distance of those that are fooled."""
        f0 = torch.cat([check_finite(view.logits(part)) for part in x.split(self.chunk)])
        order = f0.argsort(dim=1, descending=True, stable=True)[:, : self.classes]  # k̂ first
        r = torch.zeros_like(x)  # r̂ = Σ r_i
        steps, toward = torch.zeros_like(order[:, 0]), torch.zeros_like(order[:, 0])
        least, usual = _least_step(x), 64 * torch.finfo(x.dtype).eps
        waiting = torch.arange(len(x), device=x.device) if race is None else _margins(f0).argsort()
        active = waiting[:0]
        while len(active) or len(waiting):
            new, waiting = waiting.tensor_split([max(0, self.chunk - len(active))])
            if (
                race is not None and race.limit < torch.inf and len(x) >= MANY
            ):  # the moved image lies (1 + η) ‖r̂‖_p away
                certain = view.certain(f0[new], order[new, 0], self.p).amin(1)
                new = new[certain <= (1 + self.overshoot) * race.limit]
            active = torch.cat([active, new])
            if not len(active):
                continue
            late = (
                steps[active] >= LATE
                if (steps >= LATE).sum() >= SOME
                else torch.zeros_like(active, dtype=torch.bool)
            )
            moved = self._moved(x[active], r[active])
            # A dark image is brighter once it was moved.
            least[active] = torch.maximum(least[active], _least_step(moved).clamp(max=usual))
            r_i, toward[active] = self._step(
                view, moved, order[active], toward[active] * late, least[active]
            )
            possible = toward[active] > 0
            active = active[possible]
            if not len(active):
                continue
            r[active] += r_i[possible]
            steps[active] += 1
            f = view.logits(self._moved(x[active], r[active]))
            beyond = f.amax(1) - f.gather(1, order[active, :1]).squeeze(1)
            left = f.isfinite().all(1) & (beyond > _rounding(f))
            length = norm(
                (
                    self._moved(x[active], r[active], overshoot=0) - x[active]
                    if self.clip
                    else r[active]
                ),
                self.p,
            )
            distance[active[left]] = length[left]
            going = ~left & (steps[active] < self.max_steps)
            if race is not None:
                race.add(length[left])
                going &= (length <= race.limit) | race.exact
            active = active[going]
        x.copy_(self._moved(x, r))

    def _moved(self, x0: Tensor, r: Tensor, overshoot: float | None = None) -> Tensor:
        """The image moved to x + (1 + η) r, clipped where asked for."""
        x = x0 + (1 + (self.overshoot if overshoot is None else overshoot)) * r
        return x.clamp(*self.clip) if self.clip else x

    def _step(
        self, view: Slopes, x: Tensor, order: Tensor, toward: Tensor, least: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """r_i: the step to the nearest boundary of the network linearised at x, and the place of
        its class in the order.

        Args:
            view: the network.
            x: images on their way.
            order: the classes to consider for each, its own first.
            toward: the place of a class that is likely to be the nearest, so that its gradient is
                enough if no other class can be nearer; 0 for gradients of all classes.
            least: how long a step is at least; None for what is felt at the scale of these images.

        A place of 0 is returned where there is no boundary.
        """
        nearest, near, w_nearest = (
            torch.empty_like(x.flatten(1)[:, 0]),
            toward.clone(),
            torch.empty_like(x),
        )
        rest = torch.ones_like(toward, dtype=torch.bool)
        if len(one := toward.nonzero().squeeze(1)):
            pair = torch.stack([order[one, 0], order[one, toward[one]]], 1)
            f, nearest[one], _, w_nearest[one] = self._boundary(view, x[one], pair)
            others = view.certain(f, pair[:, 0], self.p).scatter(1, pair, torch.inf).amin(1)
            rest[one] = others <= nearest[one]
        if len(all := rest.nonzero().squeeze(1)):
            _, nearest[all], near[all], w_nearest[all] = self._boundary(view, x[all], order[all])
        possible = nearest.isfinite()
        length = torch.maximum(
            nearest.where(possible, 0), _least_step(x) if least is None else least
        )
        return step(length, w_nearest, self.p), near * possible

    def _boundary(
        self, view: Slopes, x: Tensor, order: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The logits f, the distance to the nearest boundary of the network linearised at x, the
        place of its class l̂ in the order, and w'_l̂."""
        f, slopes_between = view.between(x, order)
        # |f'_k| = |f_k − f_k̂|
        gaps = (f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])).abs()
        # A step has a least length, so that an image on the boundary, where f' = 0, does leave it.
        # Where a network rounds its logits to half precision, f' = 0 on both sides of the boundary,
        # half a rounding wide.
        least_gap = 4 * _rounding(f)
        if view.rounding > 0:
            least_gap = torch.maximum(least_gap, view.rounding / 2 * f.abs().amax(1))
        nearest = torch.full_like(least_gap, torch.inf)  # |f'_l̂| / ‖w'_l̂‖_q
        place, w_nearest = torch.zeros_like(order[:, 0]), torch.ones_like(x)
        for classes, w in slopes_between:  # w'_k = ∇f_k − ∇f_k̂
            lengths = torch.maximum(gaps[:, classes].T, least_gap) / norm(w, dual(self.p), rows=2)
            length, near = lengths.nan_to_num(torch.inf, torch.inf).min(0)
            nearer = length < nearest
            nearest = length.where(nearer, nearest)
            place = torch.where(nearer, near + (classes.start or 0) + 1, place)
            w_nearest[nearer] = w[near[nearer], nearer.nonzero().squeeze(1)]
        return f, nearest, place, w_nearest


def _rounding(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Differences of logits that are none: another batch size alone may change them so much."""
    return 4 * torch.finfo(f.dtype).eps * f.abs().amax(1)


def _least_step(x: Float[Tensor, "n *image"]) -> Float[Tensor, "n"]:
    """A length that is felt at the scale of an image's pixels, which is that of its largest to the
    nearest power of 256: 64 machine epsilons for pixels about 1."""
    largest = x.flatten(1).abs().amax(1)
    powers = largest.where(largest > 0, 1).log2().div(8).round().clamp(-8, 8)
    return 64 * torch.finfo(x.dtype).eps * torch.exp2(8 * powers)


def _margins(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    best = f.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def side_by_side(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """The function of each of these arguments, on as many threads as PyTorch has, each of which
    computes alone.

    For operations too small to be shared between threads one by one.
    """
    threads = torch.get_num_threads()
    if min(threads, len(arguments)) == 1:
        return [function(*each) for each in arguments]
    try:
        return list(_workers(threads).map(lambda each: function(*each), arguments))
    finally:
        torch.set_num_threads(
            threads
        )  # a worker that starts sets its own number, and the default of threads to come


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "dfal", initializer=torch.set_num_threads, initargs=(1,))
