"""Pixels as pictures of 8 bits, for files and pages."""

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def to_picture(image: Float[Tensor, "c h w"] | Float[np.ndarray, "c h w"]) -> Image.Image:
    """Return an image in [0, 1] as a picture, grey or in colour; values outside are cut off."""
    pixels = (np.asarray(image).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
