"""DeepFool: a small perturbation that changes the network's class.

Source: Moosavi-Dezfooli, Fawzi & Frossard: DeepFool. CVPR 2016.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dfal.attacks.affine import check_norm, dual, norm, step
from dfal.attacks.gradients import LogitGradients, gradients_of
from dfal.attacks.threads import map_threads
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
from dfal.nn.passes import images_a_pass
from dfal.query import Perturbation

MIN_CERTIFIED_IMAGES = 1000
"""Images from which on it pays to compute the distances within which their classes are certain:
that takes as long as attacking some hundred images."""

STEPS_BEFORE_SINGLE_CLASS = 4
"""Steps after which the gradient of the last step's class is tried alone: clipped, an image takes
ten steps and more."""

MIN_SINGLE_CLASS_IMAGES = 100
"""Images with so many steps from which on that pays, because it needs the distances within which
other classes are certain."""


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
        chunk: images worked on at a time, fewer where they are large, which bounds the memory: for
            each that is done another one follows.

    Cost: at most (classes − 1) backward and 2 forward passes a step for the images not yet done;
    usually 2 or 3 steps. Memory: two copies of the images, and for `chunk` of them four more and
    the network's activations. A network of known layers on the CPU (`dfal.nn.fast_sequential`)
    works on `chunk` images a thread, with all gradients of 32 of them.

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
        become longer than that on its way. The latter could be wrong: r̂ is a sum, and a later step
        may make it shorter again.

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
        check_input(model, images)
        with frozen_eval(model, images[:1]) as network, shape_errors(images):
            x = at_least_float32(prepare_images(network, images)).detach().clone()
            distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
            if len(x):
                gradients = gradients_of(network, x[:1])
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
        at_once = images_a_pass(x, self.chunk)
        f = torch.cat([check_finite(network.logits(chunk)) for chunk in x.split(at_once)])
        order = f.argsort(dim=1, descending=True, stable=True)[:, : self.classes]  # k̂ first
        state = _State.start(x, distance, order)
        waiting = torch.arange(len(x), device=x.device) if limit is None else _margins(f).argsort()
        active = waiting[:0]
        while len(active) or len(waiting):
            new, waiting = waiting.tensor_split([max(0, at_once - len(active))])
            if limit is not None and limit.distance < torch.inf and len(x) >= MIN_CERTIFIED_IMAGES:
                certified = network.certified_distance(f[new], order[new, 0], self.p).amin(1)
                # A moved image lies (1 + η) ‖r̂‖_p away.
                new = new[certified <= (1 + self.overshoot) * limit.distance]
            active = torch.cat([active, new])
            if len(active):
                active = self._step(network, state, active)
            if len(active):
                active = self._unfinished(network, state, active, limit)
        x.copy_(self._moved(x, state.r))

    def _step(
        self, network: LogitGradients, state: "_State", active: Int64[Tensor, "a"]
    ) -> Int64[Tensor, "b"]:
        """Add the step r_i to r̂ of each active image; return those for which there is a step."""
        moved = self._moved(state.x[active], state.r[active])
        least_length = state.raise_least_length(active, moved)
        boundary = self._nearest_boundary(
            network, moved, state.order[active], state.single_class(active)
        )
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
        state: "_State",
        active: Int64[Tensor, "a"],
        limit: KNearestLimit | None,
    ) -> Int64[Tensor, "b"]:
        """Set the distance of the active images that have left their class; return the others.

        Those that are given up for the limit are not returned either.
        """
        x, r = state.x[active], state.r[active]
        f = network.logits(self._moved(x, r))
        beyond = f.amax(1) - f.gather(1, state.order[active, :1]).squeeze(1)
        fooled = f.isfinite().all(1) & (beyond > _rounding(f))
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

    def _nearest_boundary(
        self,
        network: LogitGradients,
        x: Float[Tensor, "n *image"],
        order: Int64[Tensor, "n k"],
        single_class: Int64[Tensor, "n"],
    ) -> "_Boundary":
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
        boundary = _Boundary(
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
    ) -> tuple["_Boundary", Bool[Tensor, "n"]]:
        """Return the boundary to one class, and whether those to all others are proved farther."""
        pair = torch.stack([order[:, 0], order.gather(1, single_class.unsqueeze(1)).squeeze(1)], 1)
        f, boundary = self._boundary(network, x, pair)
        certified = network.certified_distance(f, pair[:, 0], self.p)
        others = certified.scatter(1, pair, torch.inf).amin(1)
        return replace(boundary, candidate_class=single_class), others > boundary.distance

    def _boundary(
        self, network: LogitGradients, x: Float[Tensor, "n *image"], order: Int64[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n c"], "_Boundary"]:
        """Return the logits f at x, and the nearest boundary by the gradients of all classes."""
        f, gradients = network.logit_gradients(x, order)
        # |f'_k| = |f_k − f_k̂|
        gaps = (f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])).abs()
        # A step has a least length, so that an image on the boundary, where f' = 0, does leave it.
        # Where a network rounds its logits to half precision, f' = 0 on both sides of the boundary,
        # half a rounding wide.
        least_gap = 4 * _rounding(f)
        if network.rounding > 0:
            least_gap = torch.maximum(least_gap, network.rounding / 2 * f.abs().amax(1))
        nearest = torch.full_like(least_gap, torch.inf)  # |f'_l̂| / ‖w'_l̂‖_q
        candidate_class, w_nearest = torch.zeros_like(order[:, 0]), torch.ones_like(x)
        for places, w in gradients:  # w'_k = ∇f_k − ∇f_k̂
            distances = torch.maximum(gaps[:, places].T, least_gap) / norm(w, dual(self.p), rows=2)
            distance, k = distances.nan_to_num(torch.inf, torch.inf).min(0)
            nearer = distance < nearest
            nearest = distance.where(nearer, nearest)
            candidate_class = torch.where(nearer, k + (places.start or 0) + 1, candidate_class)
            w_nearest[nearer] = w[k[nearer], nearer.nonzero().squeeze(1)]
        return f, _Boundary(nearest, candidate_class, w_nearest)


@dataclass(frozen=True)
class _State:
    """How far each of n images is on its way; changed in place.

    Attributes:
        x: the images as they came.
        distance: ‖r̂‖_p of those that are fooled, inf for others.
        order: the classes to consider, the image's own first.
        r: r̂ = Σ r_i.
        steps: how many there were.
        candidate_class: the place in `order` of the class that the last step went to.
        least_length: the length of a step at least.
    """

    x: Float[Tensor, "n *image"]
    distance: Float[Tensor, "n"]
    order: Int64[Tensor, "n k"]
    r: Float[Tensor, "n *image"]
    steps: Int64[Tensor, "n"]
    candidate_class: Int64[Tensor, "n"]
    least_length: Float[Tensor, "n"]

    @classmethod
    def start(cls, x: Tensor, distance: Tensor, order: Tensor) -> "_State":
        """Return the state before the first step."""
        none = torch.zeros_like(order[:, 0])
        return cls(x, distance, order, torch.zeros_like(x), none, none.clone(), _least_length(x))

    def raise_least_length(self, active: Tensor, moved: Tensor) -> Float[Tensor, "a"]:
        """Return the least length of the next step of active images, which lie at `moved`.

        It follows their largest pixel: a dark image is brighter once it was moved.
        """
        most = 64 * torch.finfo(moved.dtype).eps
        least = torch.maximum(self.least_length[active], _least_length(moved).clamp(max=most))
        self.least_length[active] = least
        return least

    def single_class(self, active: Tensor) -> Int64[Tensor, "a"]:
        """Return the place of the class whose gradient is tried alone, 0 for none."""
        late = self.steps >= STEPS_BEFORE_SINGLE_CLASS
        if late.sum() < MIN_SINGLE_CLASS_IMAGES:
            return torch.zeros_like(active)
        return self.candidate_class[active] * late[active]


@dataclass(frozen=True)
class _Boundary:
    """The nearest boundary of the network linearised at each of n images.

    Attributes:
        distance: |f'_l̂| / ‖w'_l̂‖_q; inf where there is no boundary.
        candidate_class: the place of l̂ in the order of the classes; 0 where there is no boundary.
        w: w'_l̂.
    """

    distance: Float[Tensor, "n"]
    candidate_class: Int64[Tensor, "n"]
    w: Float[Tensor, "n *image"]

    def put(self, places: Int64[Tensor, "m"], boundary: "_Boundary") -> None:
        """Set what is known of the images at these places."""
        self.distance[places] = boundary.distance
        self.candidate_class[places] = boundary.candidate_class
        self.w[places] = boundary.w


def _rounding(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return by how much a difference of logits may change with the size of the batch alone."""
    return 4 * torch.finfo(f.dtype).eps * f.abs().amax(1)


def _least_length(x: Float[Tensor, "n *image"]) -> Float[Tensor, "n"]:
    """Return a length that is felt at the scale of an image's pixels.

    It is 64 machine epsilons for pixels about 1; the scale is that of the largest pixel, to the
    nearest power of 256.
    """
    largest = x.flatten(1).abs().amax(1)
    powers = largest.where(largest > 0, 1).log2().div(8).round().clamp(-8, 8)
    return 64 * torch.finfo(x.dtype).eps * torch.exp2(8 * powers)


def _margins(f: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
    """Return the difference of the two largest logits."""
    best = f.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]
