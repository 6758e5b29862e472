"""What a model says of image files."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dfal.attacks import DeepFool
from dfal.data.image_files import fitted
from dfal.models.weights import SavedModel
from dfal.nn.inference import predict

PART = 256
"""Images that are decoded and predicted together."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image file: the class, its probability, and the distance to the
    boundary if it was asked for.

    The probability is calibrated where the model's card has a temperature.
    """

    path: Path
    label: str
    confidence: float
    distance: float | None = None


def label(
    saved: SavedModel, paths: list[Path], distances: bool = False
) -> Iterator[Prediction | tuple[Path, str]]:
    """What a model says of image files, in their order; for one that cannot be read, its path and
    the reason.

    Args:
        saved: the model.
        paths: of the files.
        distances: also measure how far each image lies from the decision boundary (`DeepFool`, L2).
    """
    c, h, w = saved.card.image

    def pixels(path: Path) -> NDArray[np.uint8] | str:
        try:
            return fitted(path, (h, w), c)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), PART):
            part = paths[start : start + PART]
            found = list(pool.map(pixels, part))
            read = [one for one in found if isinstance(one, np.ndarray)]
            answers = iter(_answers(saved, read, distances) if read else [])
            for path, one in zip(part, found, strict=True):
                yield (path, one) if isinstance(one, str) else Prediction(path, *next(answers))


def _answers(
    saved: SavedModel, read: list[NDArray[np.uint8]], distances: bool
) -> list[tuple[str, float, float | None]]:
    images = torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).astype(np.float32)).div_(255)
    scaled = predict(saved.network, images) / (saved.card.temperature or 1.0)
    confidences, labels = scaled.softmax(1).max(1)
    far = DeepFool()(saved.network, images).distance.tolist() if distances else [None] * len(read)
    names = [saved.card.classes[at] for at in labels.tolist()]
    return list(zip(names, confidences.tolist(), far, strict=True))
