"""Augmentations: random changes of images that leave their class as it is.

An augmentation is called as function(images, rng) with (n, c, h, w) in [0, 1], and returns as many
changed images. `dfal.nn.AUGMENTATIONS` lists them.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ZOOM = 0.35
"""How much of a side is cut off at most."""
COLOUR = 0.25
"""Largest relative change of brightness, contrast and saturation."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel."""


def none(images: Float[Tensor, "n c h w"], rng: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Return the images as they are."""
    return images


def photographs(images: Float[Tensor, "n c h w"], rng: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Mirror half of the images, cut out a part of each, and change its light and colour.

    Args:
        images: with pixels in [0, 1].
        rng: a generator on the CPU, so that every device draws the same.
    """
    n = len(images)

    def draw(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, generator=rng)).to(images.device, images.dtype)

    scale = draw(1 - ZOOM, 1)
    mirrored = torch.where(draw(0, 1) < 0.5, -scale, scale)
    across, down = draw(-1, 1) * (1 - scale), draw(-1, 1) * (1 - scale)
    zero = torch.zeros_like(scale)
    rows = [torch.stack([mirrored, zero, across], 1), torch.stack([zero, scale, down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    brightness, contrast, saturation = (
        draw(1 - COLOUR, 1 + COLOUR).view(n, 1, 1, 1) for _ in range(3)
    )
    changed = changed * brightness
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + contrast * (changed - mean)
    if images.shape[1] == 3:
        luma = torch.tensor(LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
        grey = (changed * luma).sum(1, keepdim=True)
        changed = grey + saturation * (changed - grey)
    return changed.clamp(0, 1)
