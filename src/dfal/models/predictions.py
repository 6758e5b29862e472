"""Predict image files with a saved model."""

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

PREDICTION_BATCH = 256
"""Images that are decoded and predicted together."""


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for an image file.

    Attributes:
        path: of the file.
        label: the class.
        confidence: its probability, calibrated where the model's card has a temperature.
        distance: to the decision boundary, if it was measured.
    """

    path: Path
    label: str
    confidence: float
    distance: float | None = None


def label(
    saved: SavedModel, paths: list[Path], distances: bool = False
) -> Iterator[Prediction | tuple[Path, str]]:
    """Predict image files, in their order.

    Args:
        saved: the model.
        paths: of the files.
        distances: also measure how far each image lies from the decision boundary (`DeepFool`, L2).

    Returns:
        A prediction for each file; for one that cannot be read, its path and the reason.
    """
    c, h, w = saved.card.image

    def pixels(path: Path) -> NDArray[np.uint8] | str:
        try:
            return fitted(path, (h, w), c)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), PREDICTION_BATCH):
            batch = paths[start : start + PREDICTION_BATCH]
            decoded = list(pool.map(pixels, batch))
            arrays = [image for image in decoded if isinstance(image, np.ndarray)]
            predictions = iter(_predict(saved, arrays, distances) if arrays else [])
            for path, image in zip(batch, decoded, strict=True):
                yield (
                    (path, image)
                    if isinstance(image, str)
                    else Prediction(path, *next(predictions))
                )


def _predict(
    saved: SavedModel, arrays: list[NDArray[np.uint8]], distances: bool
) -> list[tuple[str, float, float | None]]:
    """Return the label, confidence and distance of each image (h, w, c)."""
    images = torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).astype(np.float32)).div_(255)
    scaled = predict(saved.network, images) / (saved.card.temperature or 1.0)
    confidences, classes = scaled.softmax(1).max(1)
    far: list[float | None] = [None] * len(arrays)
    if distances:
        far = DeepFool()(saved.network, images).distance.tolist()
    labels = [saved.card.classes[k] for k in classes.tolist()]
    return list(zip(labels, confidences.tolist(), far, strict=True))
