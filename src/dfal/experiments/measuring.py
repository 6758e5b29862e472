"""What every round measures: predicted classes, accuracy on the test set, and seconds."""

import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.nn.inference import predict
from dfal.nn.passes import image_chunks

NO_IMAGES = torch.empty(0, dtype=torch.int64)
"""The indices, labels or classes of no image."""


def predicted(model: nn.Module, images: Float[Tensor, "n *image"]) -> Int64[Tensor, "n"]:
    """Return the predicted class of each image."""
    return predict(model, images).argmax(1).cpu()


def predicted_at(
    model: nn.Module, images: Images, indices: Int64[Tensor, "n"]
) -> Int64[Tensor, "n"]:
    """Return the predicted classes of the images at these indices, read in chunks."""
    if not len(indices):
        return NO_IMAGES
    return torch.cat([predicted(model, chunk) for _, chunk in image_chunks(images, indices)])


def evaluate(model: nn.Module, data: Dataset) -> float:
    """Return the fraction of the test set that is classified correctly."""
    indices = torch.arange(len(data.test_images))
    correct = predicted_at(model, data.test_images, indices) == data.test_labels
    return int(correct.sum()) / len(correct)


class Clock:
    """Seconds spent in each of the functions that it wraps, since the last lap."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its seconds added up under a name."""

        def wrapped(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                elapsed = time.perf_counter() - start
                self._seconds[name] = self._seconds.get(name, 0) + elapsed

        return wrapped

    def lap(self) -> dict[str, float]:
        """Return the seconds by name, and start anew."""
        seconds, self._seconds = self._seconds, {}
        return seconds
