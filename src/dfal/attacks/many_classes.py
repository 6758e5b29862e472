"""The nearest of many boundaries, most of which are left out without computing their gradients.

Derivatives of all logits along a direction take about as long as one backward pass. Along known
gradients they give a part of every w'_k, and along random directions they bound the rest of it.

Source: the norm of a vector by its products with random ones, Johnson & Lindenstrauss 1984; its
    remainder beside a few known directions, as in Meyer et al.: Hutch++. SOSA 2021.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dfal.attacks.affine import dual, norm
from dfal.attacks.deepfool_state import Boundary, gaps_of
from dfal.attacks.gradients import LogitGradients

MIN_MANY_CLASSES = 64
"""Classes from which on the directions take fewer passes than the gradients."""
DIRECTIONS = 8
"""Random directions of the first round; each further round doubles their number."""
MOST_DIRECTIONS = 1 / 4
"""Of the number of classes: where so many do not tell, all gradients that are left are computed."""
MISSED = 1e-9
"""Probability at most that the nearest boundary is left out."""
ROUNDING = 1e-3
"""By which fraction distances are taken to be shorter than their bounds, for rounding errors."""


def nearest_of_many(
    network: LogitGradients,
    x: Float[Tensor, "n *image"],
    order: Int64[Tensor, "n k"],
    tried: Int64[Tensor, "n"],
    p: float,
) -> Boundary | None:
    """Return the nearest boundary of the network linearised at x, for p ≥ 2.

    With orthonormal v_j, and m directions r_i of independent standard normal numbers, the sum s_k
    of ⟨w'_k − Σ_j ⟨w'_k, v_j⟩ v_j, r_i⟩² over i is χ² distributed with m degrees of freedom, but
    for the squared length of that remainder of w'_k. So ‖w'_k‖₂² ≤ Σ_j ⟨w'_k, v_j⟩² + s_k / t but
    for a probability P(χ²_m < t), which is chosen. This bounds the distance of class k from below,
    and the classes whose bound is less than the nearest distance known have their gradients
    computed. Only the bound of the nearest class itself, in any of the rounds, can deceive this:
    its probability is at most `MISSED`. Directions are the same in each call.

    Args:
        network: gives logits, their gradients, and their derivatives along directions.
        x: images on their way.
        order: the classes to consider for each, its own first.
        tried: the place in `order` of the class whose gradient is computed first.
        p: the norm.

    Returns:
        The boundaries; None where the network has no derivatives along directions.
    """
    f, combine = network.combined_gradient(x, order)
    gaps = gaps_of(network, f, order)
    w = combine(F.one_hot(tried - 1, gaps.shape[1]).to(x.dtype))
    sums = combine(gaps.amin(1, keepdim=True) / gaps)
    boundary = Boundary(_distance(gaps, tried, w, p), tried.clone(), w)
    linearised = _Linearised(network, x, order, gaps, p)
    bounds = _bounds(linearised, tried, torch.stack([w, sums], 1), boundary.distance)
    if bounds is None:
        return None
    lowest, likely = (each.scatter_(1, tried.unsqueeze(1) - 1, torch.inf) for each in bounds)
    images = torch.arange(len(x), device=x.device)  # of the last forward pass
    while len(left := (lowest < boundary.distance.unsqueeze(1)).any(1).nonzero().squeeze(1)):
        if 2 * len(left) <= len(images):
            images = left
            _, combine = network.combined_gradient(x[images], order[images])
        nearer = lowest[images] < boundary.distance[images].unsqueeze(1)
        place = likely[images].where(nearer, torch.inf).argmin(1)
        w = combine(F.one_hot(place, gaps.shape[1]).to(x.dtype))
        distance = _distance(gaps[images], place + 1, w, p)
        known, known_place = boundary.distance[images], boundary.candidate_class[images]
        better = (distance < known) | ((distance == known) & (place + 1 < known_place))
        better &= nearer.any(1) & distance.isfinite()
        boundary.put(images[better], Boundary(distance[better], place[better] + 1, w[better]))
        lowest[images, place] = torch.inf
    boundary.candidate_class[boundary.distance.isinf()] = 0
    return boundary


@dataclass(frozen=True)
class _Linearised:
    """The network linearised at n images, as for `nearest_of_many`.

    Attributes:
        network: gives derivatives along directions.
        x: the images.
        order: the classes to consider for each, its own first.
        gaps: |f'_k|.
        p: the norm.
    """

    network: LogitGradients
    x: Float[Tensor, "n *image"]
    order: Int64[Tensor, "n k"]
    gaps: Float[Tensor, "n k-1"]
    p: float

    def slopes(
        self, images: Int64[Tensor, "a"], directions: Float[Tensor, "_ m *image"]
    ) -> Float[Tensor, "a m k"] | None:
        """Return ⟨w'_k, r⟩ of some images, each direction r and class.

        Directions are those of each image, or (1, m, *image), the same for all.
        """
        slopes = self.network.directional_derivatives(self.x[images], directions)
        if slopes is None:
            return None
        of_classes = slopes.gather(
            2, self.order[images].unsqueeze(1).expand(-1, slopes.shape[1], -1)
        )
        return of_classes[..., 1:] - of_classes[..., :1]


def _distance(gaps: Tensor, place: Tensor, w: Tensor, p: float) -> Float[Tensor, "n"]:
    """Return |f'_k| / ‖w'_k‖_q of the class at a place; inf where there is no boundary."""
    distance = gaps.gather(1, place.unsqueeze(1) - 1).squeeze(1) / norm(w, dual(p))
    return distance.nan_to_num(torch.inf, torch.inf)


def _bounds(
    linearised: _Linearised,
    tried: Int64[Tensor, "n"],
    gradients: Float[Tensor, "n 2 *image"],
    nearest: Float[Tensor, "n"],
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]] | None:
    """Return lower bounds and estimates of the distances of all classes.

    An image has more directions as long as more classes than directions are left, which the
    estimates say.

    Args:
        linearised: the network.
        tried: the place of a class of each image.
        gradients: its w'_k, and a sum of all, which are left out of the random directions.
        nearest: its distance.
    """
    x, gaps = linearised.x, linearised.gaps
    images, m, rounds = torch.arange(len(x), device=x.device), 0, 0
    v = torch.linalg.qr(gradients.nan_to_num(0, 0, 0).flatten(2).mT)[0].mT  # orthonormal rows
    along_v = linearised.slopes(images, v.unflatten(2, x.shape[1:]))
    if along_v is None or not _agree(along_v, gradients[:, :1].flatten(2) @ v.mT, tried):
        return None
    known, rest = along_v.square().sum(1), torch.zeros_like(gaps)
    lowest, likely = torch.zeros_like(gaps), torch.zeros_like(gaps)
    # ‖w‖_q ≤ D^(1/q − 1/2) ‖w‖₂ for q ≤ 2, with D numbers an image.
    scale = x[0].numel() ** (1 / dual(linearised.p) - 1 / 2)
    generator = torch.Generator().manual_seed(0)
    while len(images) and (m == 0 or 2 * m <= MOST_DIRECTIONS * gaps.shape[1]):
        count, rounds = max(m, DIRECTIONS), rounds + 1
        r = torch.randn(count, *x.shape[1:], generator=generator, dtype=x.dtype).to(x.device)
        along_r = linearised.slopes(images, r.unsqueeze(0))
        if along_r is None:
            return None
        along_r -= (v[images] @ r.flatten(1).T).mT @ along_v[images]
        m += count
        rest[images] += along_r.square().sum(1)
        t = _chi_squared_quantile(m, MISSED / (rounds * (rounds + 1)))
        slopes = [(known[images] + rest[images] / each).sqrt() * scale for each in (t, m)]
        lowest[images] = (gaps[images] / slopes[0]).nan_to_num(0, torch.inf) * (1 - ROUNDING)
        likely[images] = (gaps[images] / slopes[1]).nan_to_num(0, torch.inf)
        limit = torch.minimum(nearest[images], likely[images].amin(1)).unsqueeze(1)
        images = images[(lowest[images] < limit).sum(1) > m]
    return lowest, likely


def _agree(
    along_v: Float[Tensor, "n v k"], want: Float[Tensor, "n 1 v"], tried: Int64[Tensor, "n"]
) -> bool:
    """Return whether the slopes of the class tried are those of its gradient w'_k, as they must be.

    A layer of the user's may have one rule for gradients and another one for derivatives.
    """
    places = (tried - 1).view(-1, 1, 1).expand(-1, along_v.shape[1], 1)
    error = (along_v.gather(2, places).squeeze(2) - want.squeeze(1)).norm(dim=1)
    return bool((error <= 1e-2 * want.squeeze(1).norm(dim=1)).all())


def _chi_squared_quantile(m: int, probability: float) -> float:
    """Return the t with P(χ²_m < t) = probability."""
    from scipy.special import gammaincinv

    return float(2 * gammaincinv(m / 2, probability))
