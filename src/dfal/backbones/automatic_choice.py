"""The pretrained backbone of this machine: which is installed, and at which input size."""

import time
from dataclasses import dataclass

import torch

from dfal.backbones import named
from dfal.backbones.base import Backbone, Image, reduced_precision
from dfal.backbones.registry import installed

SLOW_MS = 100
"""Milliseconds an image, on all threads, from which on a machine is slow: ten images a second."""
SMALLER, SMALLER_SIDE = "lite0", 192
"""The backbone on a slow machine, with height and width of its images in pixels."""
TIMED_IMAGES, TIMED_REPEATS = 4, 3


@dataclass(frozen=True)
class Automatic:
    """A backbone that was chosen without looking at images.

    Attributes:
        backbone: the backbone.
        note: why it is a faster and less accurate one, in a sentence; empty where it is the best.
    """

    backbone: Backbone
    note: str = ""


def automatic(image: Image | None = None) -> Automatic | None:
    """Load the best pretrained backbone that is installed, in the size that suits this machine.

    A few images are timed. Features of different sizes are different: store the size with them,
    and load the backbone by name and size later.

    Args:
        image: what it is to take; nothing is timed then.

    Returns:
        The backbone; None where the extra `photos` is not installed.
    """
    names = installed()
    if not names:
        return None
    name = names[0]
    backbone = named.load(name, image)
    if image is not None:
        return Automatic(backbone)
    ms = milliseconds(backbone)
    if ms <= SLOW_MS:
        return Automatic(backbone)
    smaller = SMALLER if SMALLER in names else name
    note = (
        f"This machine takes {ms:.0f} ms for an image with {name}, so {smaller} is used on images"
        f" of {SMALLER_SIDE} × {SMALLER_SIDE} pixels, which is faster and less accurate."
    )
    return Automatic(named.load(smaller, (3, SMALLER_SIDE, SMALLER_SIDE)), note)


@torch.inference_mode()
def milliseconds(backbone: Backbone) -> float:
    """Return the CPU time of an image divided by the threads: other work does not count."""
    images = torch.rand(TIMED_IMAGES, *backbone.image, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(TIMED_REPEATS):
        start = time.process_time()
        with reduced_precision(backbone.network, images.device):
            backbone.network(images)
        times.append(time.process_time() - start)
    return min(times) * 1000 / TIMED_IMAGES / torch.get_num_threads()
