"""Images in memory, fitted into another size as files are by `image_files.fitted`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dfal.errors import DfalError

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, of ITU-R BT.601."""


def resized(
    images: Float[Tensor, "n c h w"], shape: tuple[int, int, int]
) -> Float[Tensor, "n channels height width"]:
    """Resize images as a whole to fit into a size, and fill the rest with their border's median.

    Smaller images are enlarged by bicubic interpolation, larger ones are shrunk with antialiasing.
    A grey image is repeated for three channels; of a colour image the luminance is taken for one.

    Args:
        images: with pixels in [0, 1].
        shape: channels, height and width of the result.

    Raises:
        DfalError: for other numbers of channels.
    """
    channels, height, width = shape
    c, h, w = images.shape[1:]
    if c != channels and {c, channels} != {1, 3}:
        raise DfalError(
            f"the images have {c} {'channel' if c == 1 else 'channels'}, but {channels} are needed:"
            " give grey images or images of three colours"
        )
    if (h, w) != (height, width):
        scale = min(height / h, width / w)
        size = [max(1, round(side * scale)) for side in (h, w)]
        images = F.interpolate(
            images, size, mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        images = _padded(images, height, width)
    if c == channels:
        return images
    if c == 1:
        return images.repeat(1, channels, 1, 1)
    weights = torch.tensor(LUMINANCE, device=images.device)
    return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def _padded(images: Float[Tensor, "n c h w"], height: int, width: int) -> Tensor:
    """Return images in the middle of larger ones, whose rest has the median of their border."""
    n, c, h, w = images.shape
    if (h, w) == (height, width):
        return images
    border = torch.cat([images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]], 2)
    padded = border.median(2).values.view(n, c, 1, 1).repeat(1, 1, height, width)
    top, left = (height - h) // 2, (width - w) // 2
    padded[:, :, top : top + h, left : left + w] = images
    return padded
