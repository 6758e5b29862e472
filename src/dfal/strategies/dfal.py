"""DFAL, DeepFool Active Learning (Ducoffe & Precioso 2018): ask about what lies closest to the
decision boundary."""

from dataclasses import dataclass

import torch
from torch import nn

from dfal.attacks import DeepFool
from dfal.attacks.deepfool import KNearestLimit
from dfal.fields import added
from dfal.nn.inference import default_modes, device_of
from dfal.pool import Pool
from dfal.protocols import Attack
from dfal.query import Query
from dfal.strategies.base import check_candidates, chunks, sample_candidates


@dataclass(frozen=True)
class DFAL:
    """Asks about the k candidates with the smallest ‖r‖_p, and gives each adversarial example x + r
    its image's label.

    Scores are distances in the units of the pixels. Images that the attack does not fool are
    infinitely far: they come last and have no twin.

    Attributes:
        attack: how the distance is measured; the paper's is `DeepFool(p=2)`.
        candidates: K, how many images of U are looked at, drawn at random; None for all. 300 in the
        released code.
        twins: whether the adversarial examples are learnt too.
        exact: whether every image is measured to the end unless it is certain not to be among the k
        nearest. Otherwise it is
            given up as soon as it seems so: `DeepFool.nearest` says when that can be wrong,
            docs/performance.md how often it was. Attacks other than DeepFool always measure to the
            end.

    Cost: that of the attack on K images; with many images, little more than a forward pass for
    most of them. Memory: CHUNK images and k twins.
    """

    attack: Attack = DeepFool()
    candidates: int | None = 300
    twins: bool = True
    exact: bool = added(False)

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        best, distance, twins = (
            torch.empty(0, dtype=torch.int64),
            torch.empty(0),
            torch.empty(0, *pool.images.shape),
        )
        limit = KNearestLimit(k, exact=self.exact)
        for indices, images in chunks(
            pool, sample_candidates(pool, self.candidates, k, rng), device_of(model)
        ):
            if isinstance(self.attack, DeepFool):
                found = self.attack.nearest(model, images, limit)
            else:
                found = self.attack(model, images)
            length = found.distance.where(
                found.fooled, torch.inf
            )  # whatever an attack says of how far it went in vain
            distances = torch.cat([distance, length.cpu()])
            order = distances.sort(stable=True).indices[:k]
            best, distance = torch.cat([best, indices])[order], distances[order]
            if self.twins:
                twins = torch.cat([twins, found.images.cpu()])[order]
        if not self.twins:
            return Query(best, distance)
        fooled = distance.isfinite()
        return Query(best, distance, twinned=best[fooled], twins=twins[fooled])


DFAL_NO_TWINS = DFAL(twins=False)
DFAL_RELEASED = DFAL(attack=DeepFool(max_steps=10, overshoot=0), exact=True)
