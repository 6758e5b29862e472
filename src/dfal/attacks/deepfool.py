"""DeepFool: a small perturbation that changes the network's class.

Source: Moosavi-Dezfooli, Fawzi & Frossard: DeepFool. CVPR 2016.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.attacks.affine import check_norm, dual, norm, step
from dfal.attacks.deepfool_state import Boundary, State, gaps_of, rounding_of
from dfal.attacks.gradients import LogitGradients, prepared_gradients
from dfal.attacks.many_classes import MIN_MANY_CLASSES, nearest_of_many
from dfal.attacks.preparation import prepared
from dfal.attacks.threads import map_threads
from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.nn.inference import check_finite
from dfal.nn.passes import images_a_pass
from dfal.query import Perturbation

MIN_CERTIFIED_IMAGES = 1000
"""Images from which on it pays to compute the distances within which their classes are certain:
that takes as long as attacking some hundred images."""
GPU_CHUNKS = 8
"""How many times as many images as on a CPU are worked on at a time on any other device."""


class KNearestLimit:
    """The k-th smallest distance found so far: what lies farther is not among the k nearest.

    Attributes:
        exact: whether an image is given up only when it is certain not to be among the nearest.
        distance: the k-th smallest distance; inf as long as there are fewer.
    """

    def __init__(self, k: int, *, exact: bool):
        self.k, self.exact, self.distance = k, exact, torch.inf
        self._nearest = torch.empty(0)

    def add(self, distances: Float[Tensor, "m"]) -> None:
        """Take distances into account."""
        self._nearest = torch.cat([self._nearest, distances.cpu()]).sort().values[: self.k]
        if 0 < self.k == len(self._nearest):
            self.distance = float(self._nearest[-1])


@dataclass(frozen=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised network until the class changes.

    This is algorithm 2 of the paper; with one logit or two it is algorithm 1. The class to leave is
    the network's own, so no label is needed. `distance` is ‖r̂‖_p with r̂ = Σ r_i; `images` are
    x + (1 + η) r̂. For an affine classifier the distance is exact.

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
        chunk: images worked on at a time on a CPU, and eight times as many elsewhere; fewer where
            they are large, which bounds the memory: for each that is done another one follows.

    Cost: for an image (classes − 1) backward and 2 forward passes in the first step, and usually 2
    of each in a later one; usually 2 or 3 steps. From 64 classes on and for p ≥ 2, a step takes far
    fewer, usually 15 to 70 with 1,000 classes: classes that are farther than the nearest have no
    gradients computed, but for a probability of 1e-9 a step at most that the nearest is left out
    (`dfal.attacks.many_classes`). Memory: two copies of the images, and for `chunk`
    of them four more and the network's activations. A network of known layers on the CPU
    (`dfal.nn.fast_sequential`) works on `chunk` images a thread, with all gradients of 32 of them.

    Raises:
        DfalError: for settings that cannot work.
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
        self, model: nn.Module, images: Float[Tensor, "n *image"], limit: KNearestLimit
    ) -> Perturbation:
        """Attack a batch of which only the images within the limit matter.

        Others may be given up: they are then not fooled and infinitely far. An image is given up
        when no perturbation shorter than the limit can change its class
        (`LogitGradients.certified_distance`) and, unless the limit is exact, when its own has
        become longer than that on its way, or when one backward pass shows that its first step
        would be (`_are_beyond`). The latter two could be wrong: r̂ is a sum, and a later step may
        make it shorter again.

        Args:
            model: returns logits, (N, C) or one a row; left as it was.
            images: N images as the network takes them.
            limit: takes the distances found into account, and may have those of other batches.

        Raises:
            DfalError: as for a batch of which all images matter.
        """
        return self._attack(model, images, limit)

    @default_modes()
    def _attack(
        self, model: nn.Module, images: Tensor, limit: KNearestLimit | None
    ) -> Perturbation:
        with prepared(model, images) as (network, x):
            distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
            if len(x):
                with prepared_gradients(network, x[:1]) as gradients:
                    # With a limit there is one thread, so that which images are given up does not
                    # depend on which thread is faster.
                    share = -(-len(x) // (gradients.threads if limit is None else 1))
                    map_threads(
                        partial(self._run, gradients, limit),
                        list(zip(x.split(share), distance.split(share), strict=True)),
                    )
        return Perturbation(x, distance, distance.isfinite())

    def _run(
        self, network: LogitGradients, limit: KNearestLimit | None, x: Tensor, distance: Tensor
    ) -> None:
        """Move the images x, and set the distance of those that are fooled, both in place."""
        at_once = images_a_pass(x, self.chunk * (1 if x.device.type == "cpu" else GPU_CHUNKS))
        f = torch.cat([check_finite(network.logits(chunk)) for chunk in x.split(at_once)])
        order = f.argsort(dim=1, descending=True, stable=True)[:, : self.classes]  # k̂ first
        state = State.start(x, distance, order)
        waiting = torch.arange(len(x), device=x.device) if limit is None else _margins(f).argsort()
        active = waiting[:0]
        while len(active) or len(waiting):
            new, waiting = waiting.tensor_split([max(0, at_once - len(active))])
            if limit is not None and limit.distance < torch.inf:
                if len(x) >= MIN_CERTIFIED_IMAGES:
                    certified = network.certified_distance(f[new], order[new, 0], self.p).amin(1)
                    # A moved image lies (1 + η) ‖r̂‖_p away.
                    new = new[certified <= (1 + self.overshoot) * limit.distance]
                if not limit.exact and len(new) and not self._has_many_classes(order):
                    new = new[self._may_be_within(network, state, new, limit.distance)]
            active = torch.cat([active, new])
            if len(active):
                exact = limit is not None and limit.exact
                active = self._step(network, state, active, exact=exact)
            if len(active):
                active = self._unfinished(network, state, active, limit)
        x.copy_(self._moved(x, state.r))

    def _may_be_within(
        self, network: LogitGradients, state: State, new: Int64[Tensor, "a"], distance: float
    ) -> Bool[Tensor, "a"]:
        """Return of new images whether their first step may be no longer than a distance."""
        f, combine = network.combined_gradient(state.x[new], state.order[new])
        return ~self._are_beyond(combine, distance / gaps_of(network, f, state.order[new]))

    def _step(
        self,
        network: LogitGradients,
        state: State,
        active: Int64[Tensor, "a"],
        *,
        exact: bool = False,
    ) -> Int64[Tensor, "b"]:
        """Add the step r_i to r̂ of each active image; return those for which there is a step.

        Unless exact, the class that the last step went to is tried alone, where all of them would
        take longer, and most of many classes are left out.
        """
        moved = self._moved(state.x[active], state.r[active])
        least_length = state.raise_least_length(active, moved)
        order, boundary = state.order[active], None
        if not exact and self._has_many_classes(order):
            tried = state.candidate_class[active].clamp(min=1)
            boundary = nearest_of_many(network, moved, order, tried, self.p)
        if boundary is None:
            is_batched = len(active) * (order.shape[1] - 1) <= network.batched_pairs
            by_all = exact or is_batched
            single_class = torch.zeros_like(active) if by_all else state.single_class(active)
            boundary = self._nearest_boundary(network, moved, order, single_class)
        exists = boundary.distance.isfinite()
        length = torch.maximum(boundary.distance.where(exists, 0), least_length)
        r_i = step(length, boundary.w, self.p)
        state.candidate_class[active] = boundary.candidate_class
        active = active[exists]
        state.r[active] += r_i[exists]
        state.steps[active] += 1
        return active

    def _unfinished(
        self,
        network: LogitGradients,
        state: State,
        active: Int64[Tensor, "a"],
        limit: KNearestLimit | None,
    ) -> Int64[Tensor, "b"]:
        """Set the distance of the active images that have left their class; return the others.

        Those that are given up for the limit are not returned either.
        """
        x, r = state.x[active], state.r[active]
        f = network.logits(self._moved(x, r))
        beyond = f.amax(1) - f.gather(1, state.order[active, :1]).squeeze(1)
        fooled = f.isfinite().all(1) & (beyond > rounding_of(f))
        length = norm((x + r).clamp(*self.clip) - x if self.clip else r, self.p)
        state.distance[active[fooled]] = length[fooled]
        unfinished = ~fooled & (state.steps[active] < self.max_steps)
        if limit is not None:
            limit.add(length[fooled])
            unfinished &= (length <= limit.distance) | limit.exact
        return active[unfinished]

    def _moved(self, x: Tensor, r: Tensor) -> Tensor:
        """Return x + (1 + η) r, clipped where asked for."""
        moved = x + (1 + self.overshoot) * r
        return moved.clamp(*self.clip) if self.clip else moved

    def _has_many_classes(self, order: Int64[Tensor, "n k"]) -> bool:
        """Return whether classes are left out by `nearest_of_many`, whose bounds are of p ≥ 2."""
        return self.p >= 2 and order.shape[1] >= MIN_MANY_CLASSES

    def _nearest_boundary(
        self,
        network: LogitGradients,
        x: Float[Tensor, "n *image"],
        order: Int64[Tensor, "n k"],
        single_class: Int64[Tensor, "n"],
    ) -> Boundary:
        """Find the nearest boundary of the network linearised at x.

        Args:
            network: gives logits and gradients.
            x: images on their way.
            order: the classes to consider for each, its own first.
            single_class: the place in `order` of the class whose gradient is tried alone; 0 for
                none.
        """
        tried = single_class.nonzero().squeeze(1)
        if not len(tried):
            return self._boundary(network, x, order)[1]
        boundary = Boundary(
            x.new_empty(len(x)), torch.empty_like(single_class), torch.empty_like(x)
        )
        single, proved = self._single_class_boundary(
            network, x[tried], order[tried], single_class[tried]
        )
        boundary.put(tried, single)
        unproved = torch.ones_like(single_class, dtype=torch.bool)
        unproved[tried] = ~proved
        if len(rest := unproved.nonzero().squeeze(1)):
            boundary.put(rest, self._boundary(network, x[rest], order[rest])[1])
        return boundary

    def _single_class_boundary(
        self, network: LogitGradients, x: Tensor, order: Tensor, single_class: Tensor
    ) -> tuple[Boundary, Bool[Tensor, "n"]]:
        """Return the boundary to one class, and whether those to all others are farther."""
        f, combine = network.combined_gradient(x, order)
        gaps = gaps_of(network, f, order)
        is_single = F.one_hot(single_class - 1, gaps.shape[1]).to(x.dtype)
        w = combine(is_single)
        distance = gaps.gather(1, single_class.unsqueeze(1) - 1).squeeze(1) / norm(w, dual(self.p))
        others = (distance.unsqueeze(1) / gaps).where(is_single == 0, 0)
        return Boundary(distance, single_class, w), self._are_beyond(combine, others)

    def _are_beyond(
        self, combine: Callable[[Tensor], Tensor], inverse_slopes: Float[Tensor, "n k"]
    ) -> Bool[Tensor, "n"]:
        """Return of each image whether its boundaries are farther than a distance d, by one pass.

        The boundary of class k is farther than d where c_k ‖w'_k‖_q < 1 with c_k = d / |f'_k|. All
        of them are taken to be where ‖Σ_k c_k w'_k‖_q < 1: that is at least each c_k ‖w'_k‖_q
        unless gradients cancel, and these point away from the gradient of the same class k̂.

        Args:
            combine: returns Σ_k c_k w'_k of each image.
            inverse_slopes: c_k; 0 for classes that are left out.
        """
        return norm(combine(inverse_slopes), dual(self.p)) < 1

    def _boundary(
        self, network: LogitGradients, x: Float[Tensor, "n *image"], order: Int64[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n c"], Boundary]:
        """Return the logits f at x, and the nearest boundary by the gradients of all classes."""
        f, gradients = network.logit_gradients(x, order)
        gaps = gaps_of(network, f, order)
        nearest = torch.full_like(gaps[:, 0], torch.inf)  # |f'_l̂| / ‖w'_l̂‖_q
        candidate_class, w_nearest = torch.zeros_like(order[:, 0]), torch.ones_like(x)
        for places, w in gradients:  # w'_k = ∇f_k − ∇f_k̂
            distances = gaps[:, places].T / norm(w, dual(self.p), rows=2)
            distance, k = distances.nan_to_num(torch.inf, torch.inf).min(0)
            nearer = distance < nearest
            nearest = distance.where(nearer, nearest)
            candidate_class = torch.where(nearer, k + (places.start or 0) + 1, candidate_class)
            w_nearest[nearer] = w[k[nearer], nearer.nonzero().squeeze(1)]
        return f, Boundary(nearest, candidate_class, w_nearest)


def _margins(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the difference of the two largest logits."""
    best = f.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]
