"""Judge labels by networks that were not trained on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import nn

from dfal.data.image_array import Images
from dfal.labelling.learning.doubts import doubtful
from dfal.labelling.store.records import Judgement
from dfal.models import calibration
from dfal.protocols import Attack
from dfal.stats.agreement import ENOUGH


@dataclass(frozen=True)
class Evaluation:
    """A network on images that it was not trained on.

    Attributes:
        model: the network.
        images: (n,) their indices.
        logits: (n, C) of the network.
        labels: (n,) their labels; UNKNOWN or DECLINED where people have taken them back.
    """

    model: nn.Module
    images: Int64[np.ndarray, "n"]
    logits: Float64[np.ndarray, "n c"]
    labels: Int64[np.ndarray, "n"]

    @property
    def is_comparable(self) -> Bool[np.ndarray, "n"]:
        """Return which images have a class that the network knows: one may be newer than it."""
        comparable: Bool[np.ndarray, n] = (self.labels >= 0) & (self.labels < self.logits.shape[1])
        return comparable


def fit_temperature(evaluations: Sequence[Evaluation]) -> float | None:
    """Return the temperature that calibrates the networks' confidences; None for too few labels."""
    if sum(int(evaluation.is_comparable.sum()) for evaluation in evaluations) < ENOUGH:
        return None
    return calibration.temperature(*_comparable(evaluations))


def judge(
    evaluations: Sequence[Evaluation],
    images: Images,
    attack: Attack,
    temperature: float | None,
) -> list[Judgement]:
    """Return what each network predicts for its images.

    The distance to the decision boundary is measured where a network has reason to doubt the label.

    Args:
        evaluations: of networks with the same classes.
        images: all images of the session.
        attack: what measures the distance.
        temperature: that calibrates the logits; None for raw confidences.
    """
    if not evaluations:
        return []
    doubts = doubtful(*_comparable(evaluations))
    judgements = []
    for evaluation in evaluations:
        count = int(evaluation.is_comparable.sum())
        is_doubtful = np.zeros(len(evaluation.images), bool)
        is_doubtful[evaluation.is_comparable], doubts = doubts[:count], doubts[count:]
        suspects = evaluation.images[is_doubtful]
        distance: dict[int, float] = {}
        if len(suspects):
            x = images.take(torch.from_numpy(suspects))
            distances = attack(evaluation.model, x).distance.nan_to_num(posinf=0.0)
            distance = dict(zip(suspects.tolist(), distances.tolist(), strict=True))
        scaled = torch.from_numpy(evaluation.logits / (temperature or 1.0))
        confidence = scaled.softmax(1).amax(1)
        judgements += [
            Judgement(image, predicted, probability, distance.get(image))
            for image, predicted, probability in zip(
                evaluation.images.tolist(),
                evaluation.logits.argmax(1).tolist(),
                confidence.tolist(),
                strict=True,
            )
        ]
    return judgements


def _comparable(
    evaluations: Sequence[Evaluation],
) -> tuple[Float64[np.ndarray, "m c"], Int64[np.ndarray, "m"]]:
    """Return the logits and labels of all images that can be compared."""
    logits = [evaluation.logits[evaluation.is_comparable] for evaluation in evaluations]
    labels = [evaluation.labels[evaluation.is_comparable] for evaluation in evaluations]
    return np.concatenate(logits), np.concatenate(labels)
