"""The card of a model: what is needed to use the file and to trust it."""

import json
import math
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfal.damage import check_types
from dfal.errors import DfalError, first_line
from dfal.nn.evaluation import frozen_eval
from dfal.nn.inference import logits
from dfal.nn.network_input import device_of
from dfal.stats.agreement import ENOUGH

MAX_IMAGE_NUMBERS = 2**30
"""Numbers of an image at most, over all channels."""


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("dfal", "torch", "numpy", "pillow")} | {
        "python": platform.python_version()
    }


@dataclass(frozen=True)
class ModelCard:
    """Describes a model: what is needed to use it and to trust it.

    Attributes:
        classes: the name of each logit.
        image: channels, height and width that it takes, with values in [0, 1]; images are fitted
            into them whole (`dfal.data.image_files.fitted`).
        network: one of `dfal.nn.NETWORKS`, or the `package.module:function` that makes it; of a
            `FeatureClassifier` the name of its backbone (`dfal.backbones.load`).
        annotations: labels that people gave, which it was trained on.
        accuracy: fraction of correct predictions on a random hold-out, if there was one.
        interval: the 95 % CI of the accuracy.
        held_out: how many images the hold-out has.
        temperature: divides the logits before the softmax, so that confidences are as high as the
            model is often right; None where they are not calibrated.
        recipe: what rebuilds the backbone of a `FeatureClassifier`; None for any other network.
            `dfal.models.save` fills it in.
        licence: of the weights.
        about: anything else, in words.
        versions: of the packages that made it.
    """

    classes: tuple[str, ...]
    image: tuple[int, int, int]
    network: str = "lenet5"
    annotations: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    held_out: int = 0
    licence: str = "not given"
    about: str = ""
    versions: dict[str, str] = field(default_factory=_versions)
    temperature: float | None = None
    recipe: dict[str, Any] | None = None

    def lines(self) -> dict[str, str]:
        """Return the card as text for people, by heading."""
        c, h, w = self.image
        measured = "not measured"
        if self.accuracy is not None:
            low, high = self.interval or (float("nan"), float("nan"))
            measured = (
                f"{self.accuracy:.1%} (95 % CI {low:.1%} to {high:.1%}) on {self.held_out:,}"
                " images held out at random"
            )
            if self.held_out < ENOUGH:
                measured += f"; fewer than {ENOUGH} are too few to rely on"
        lines = {
            "classes": ", ".join(self.classes),
            "network": self.network,
            "images": (
                f"{h}×{w} pixels, {'colour' if c == 3 else 'grey'}, fitted in whole, values from 0"
                " to 1"
            ),
            "trained on": f"{self.annotations:,} annotations",
            "accuracy": measured,
            "confidence": (
                "not calibrated"
                if self.temperature is None
                else f"calibrated (temperature {self.temperature:.2f})"
            ),
            "licence": self.licence,
            "made with": ", ".join(f"{name} {number}" for name, number in self.versions.items()),
        }
        return lines | ({"about": self.about} if self.about else {})

    def caution(self) -> str:
        """Return what somebody who relies on the model's predictions must know, in a line."""
        lines = self.lines()
        calibrated = (
            lines["confidence"]
            if self.temperature is not None
            else "not calibrated, and may be far too high"
        )
        return f"accuracy {lines['accuracy']}; confidences are {calibrated}"


def check(model: nn.Module, card: ModelCard, name: str) -> None:
    """Check that a network takes the card's images and returns a logit for each class.

    Args:
        model: the network.
        card: its card.
        name: what the error calls the model.

    Raises:
        DfalError: where it does not.
    """
    try:
        with frozen_eval(model), torch.no_grad():
            images = torch.zeros(1, *card.image, device=device_of(model))
            outputs = logits(model, images).shape[1]
    except DfalError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise DfalError(
            f"the network {card.network} of {name} cannot take images of shape {card.image}"
            f" ({reason})"
        ) from None
    if outputs != len(card.classes):
        raise DfalError(
            f"the network {card.network} of {name} gives {outputs} logits, but its card names"
            f" {len(card.classes)} classes"
        )


def read(text: str, path: Path) -> ModelCard:
    """Read a card: every field of its type and within its bounds, and nothing else.

    Args:
        text: JSON.
        path: of the file that the card is in, for the error.

    Raises:
        DfalError: for anything else.
    """
    refusal = DfalError(
        f"the card in {path} is of another version of dfal, or damaged: save the model again"
    )
    try:
        values: Any = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
        }
        check_types(ModelCard, values)
        card = ModelCard(**values)
        if not _is_good(card):
            raise refusal
        card.lines()
    except Exception as error:  # numbers of a thousand digits and lists in lists fail in many ways
        raise refusal from error
    return card


def _is_good(card: ModelCard) -> bool:
    """Return whether the values of a card are within their bounds."""
    fractions = [value for value in (card.accuracy, *(card.interval or ())) if value is not None]
    texts = (
        *card.classes,
        card.network,
        card.licence,
        card.about,
        *card.versions,
        *card.versions.values(),
    )
    return (
        len(card.classes) > 1
        and len(set(card.classes)) == len(card.classes)
        and all(card.classes)
        and card.image[0] in {1, 3}
        and min(card.image) > 0
        and math.prod(card.image) <= MAX_IMAGE_NUMBERS
        and min(card.annotations, card.held_out) >= 0
        and all(0 <= value <= 1 for value in fractions)
        and (card.temperature is None or 0 < card.temperature < math.inf)
        and all(type(text) is str and text.isprintable() for text in texts if text != card.about)
        and not any("\ud800" <= letter <= "\udfff" for letter in card.about)
    )
