"""The card of a model: what somebody who gets the file must know."""

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
from dfal.nn.inference import device_of, frozen_eval, logits
from dfal.stats.agreement import ENOUGH

LARGEST_IMAGE = 2**30
"""Numbers in an image that a network can take."""


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("dfal", "torch", "numpy", "pillow")} | {
        "python": platform.python_version()
    }


@dataclass(frozen=True)
class ModelCard:
    """What somebody who gets the file must know to use the model, and to trust it.

    Attributes:
        classes: the name of each logit.
        image: channels, height and width that it wants, in [0, 1]; images are fitted into them
        whole (`dfal.data.image_files.fitted`).
        network: `lenet5`, `vgg8`, or the `package.module:function` that makes it.
        annotations: answers that people gave, which it was trained on.
        accuracy: fraction right on a hold-out that was drawn at random, if there was one.
        interval: the 95 % interval of the accuracy.
        held_out: images in that hold-out.
        temperature: by which logits are divided before the softmax, so that confidences are as high
            as the model is often right; None where they are not calibrated.
        licence: of the weights.
        about: anything else, in words.
        versions: of what made it.
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

    def lines(self) -> dict[str, str]:
        """The card for people: heading → text."""
        c, h, w = self.image
        measured = "not measured"
        if self.accuracy is not None:
            low, high = self.interval or (float("nan"), float("nan"))
            measured = (
                f"{self.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on {self.held_out:,}"
                " images held out at random"
            )
            if self.held_out < ENOUGH:
                measured += f"; fewer than {ENOUGH} are too few to rely on"
        found = {
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
        return found | ({"about": self.about} if self.about else {})

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
    """Raise unless the network takes such images and gives a logit for each class."""
    try:
        with frozen_eval(model), torch.no_grad():
            found = logits(model, torch.zeros(1, *card.image, device=device_of(model))).shape[1]
    except DfalError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise DfalError(
            f"the network {card.network} of {name} cannot take images of shape {card.image}"
            f" ({reason})"
        ) from None
    if found != len(card.classes):
        raise DfalError(
            f"the network {card.network} of {name} gives {found} logits, but its card names"
            f" {len(card.classes)} classes"
        )


def read(text: str, path: Path) -> ModelCard:
    """The card in a file: every field of its type, and nothing else."""
    refusal = DfalError(
        f"the card in {path} is of another version of dfal, or damaged: save the model again"
    )
    try:
        given: Any = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
        }
        check_types(ModelCard, given)
        card = ModelCard(**given)
        if not _is_good(card):
            raise refusal
        card.lines()
    except Exception as error:  # numbers of a thousand digits and lists in lists fail in many ways
        raise refusal from error
    return card


def _is_good(card: ModelCard) -> bool:
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
        and math.prod(card.image) <= LARGEST_IMAGE
        and min(card.annotations, card.held_out) >= 0
        and all(0 <= value <= 1 for value in fractions)
        and (card.temperature is None or 0 < card.temperature < math.inf)
        and all(type(text) is str and text.isprintable() for text in texts if text != card.about)
        and not any("\ud800" <= letter <= "\udfff" for letter in card.about)
    )
