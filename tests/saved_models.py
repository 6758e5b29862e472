"""Saved models with their cards, also forged ones, and a user's network."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import Tensor, nn

from dfal.models import (
    ModelCard,
    save,
    weights,
)

DIGITS = ModelCard(
    classes=tuple("0123456789"),
    image=(1, 28, 28),
    annotations=200,
    accuracy=0.87,
    interval=(0.84, 0.9),
    held_out=500,
    licence="CC0",
    about="digits <b> ü",
)


@pytest.fixture
def model_file(tmp_path: Path, trained: nn.Sequential) -> Path:
    """A saved model."""
    save(trained, DIGITS, tmp_path / "digits.safetensors")
    return tmp_path / "digits.safetensors"


def one_logit(image: tuple[int, ...], classes: int) -> nn.Module:
    """A network of a user's, with one logit and batch norm."""
    return nn.Sequential(
        nn.Conv2d(image[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)
    )


def forged(path: Path, tensors: dict[str, Tensor], **card: Any) -> Path:
    """A file whose checksum is right, and whose card is anything."""
    fields = json.loads(json.dumps(DIGITS.__dict__)) | card
    text = json.dumps({name: value for name, value in fields.items() if value is not ...})
    save_file(tensors, path, {"dfal": text, "sha256": weights._digest(text, tensors)})
    return path
