"""DFAL, DeepFool Active Learning (Ducoffe & Precioso 2018): images near the decision boundary."""

from dataclasses import dataclass

import torch
from torch import nn

from dfal.attacks import DeepFool
from dfal.attacks.deepfool import KNearestLimit
from dfal.fields import added
from dfal.nn.evaluation import default_modes
from dfal.nn.network_input import device_of
from dfal.pool import Pool
from dfal.protocols import Attack
from dfal.query import Query
from dfal.strategies.base import check_candidates, chunks, sample_candidates


@dataclass(frozen=True)
class DFAL:
    """Query the k candidates with the smallest ‖r‖_p, and add their adversarial examples x + r.

    An adversarial example, the image's twin, trains the network under its image's label. Scores are
    distances to the decision boundary in the units of the pixels. Images that the attack does not
    fool are infinitely far: they come last and have no twin.

    Attributes:
        attack: how the distance is measured; the paper's is `DeepFool(p=2)`.
        candidates: K, how many images of U are considered, sampled at random; None for all. 300 in
            the released code.
        twins: whether the network also trains on the adversarial examples.
        exact: whether every image is measured to the end unless it is certain not to be among the k
            nearest. Otherwise it is given up as soon as it seems so: `DeepFool.nearest` says when
            that can be wrong, docs/performance.md how often it was. Attacks other than DeepFool
            always measure to the end.

    Source: Ducoffe & Precioso 2018.
    Cost: that of the attack on K images; with early termination among many, little more than a
    forward pass for most of them.
    Memory: CHUNK_IMAGES images and k twins.
    """

    attack: Attack = DeepFool()
    candidates: int | None = 300
    twins: bool = True
    exact: bool = added(False)

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        nearest = torch.empty(0, dtype=torch.int64)
        distance, twins = torch.empty(0), torch.empty(0, *pool.images.shape)
        limit = KNearestLimit(k, exact=self.exact)
        candidates = sample_candidates(pool, self.candidates, k, rng)
        for indices, images in chunks(pool, candidates, device_of(model)):
            if isinstance(self.attack, DeepFool):
                perturbation = self.attack.nearest(model, images, limit)
            else:
                perturbation = self.attack(model, images)
            # An attack may give the length of a perturbation that did not fool the network.
            length = perturbation.distance.where(perturbation.fooled, torch.inf)
            distance = torch.cat([distance, length.cpu()])
            order = distance.sort(stable=True).indices[:k]
            nearest, distance = torch.cat([nearest, indices])[order], distance[order]
            if self.twins:
                twins = torch.cat([twins, perturbation.images.cpu()])[order]
        if not self.twins:
            return Query(nearest, distance)
        fooled = distance.isfinite()
        return Query(nearest, distance, twinned=nearest[fooled], twins=twins[fooled])


DFAL_NO_TWINS = DFAL(twins=False)
DFAL_RELEASED = DFAL(attack=DeepFool(max_steps=10, overshoot=0), exact=True)
