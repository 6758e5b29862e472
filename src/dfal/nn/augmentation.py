"""Augmentations: random changes of images that leave their class as it is.

`dfal.nn.AUGMENTATIONS` lists them. All draw from the generator that they are given, which is on the
CPU, so that every device draws the same.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ZOOM = 0.35
"""How much of a photograph's side is cut off at most."""
COLOUR = 0.25
"""Largest relative change of brightness, contrast and saturation."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel."""
ROTATION, SCALE, SHEAR, SHIFT = math.radians(20), 0.2, 0.2, 0.09
"""Of shapes: the largest angle, log of the factor of each side, shear, and shift in sides."""
FIELDS = 512
"""Displacement fields that shapes are bent by, of which each image draws one."""
FIELD_WIDTH, FIELD_SIZE = 1 / 7, 1 / 28
"""Of a displacement field: σ of its Gaussian and its root mean square, in sides of the image."""
BEND = 1.5
"""The largest factor of a displacement field."""
WEAK_SHIFT = 0.07
"""The largest shift of a weak look, in sides of the image."""

Change = Callable[[Float[Tensor, "n c h w"], torch.Generator], Float[Tensor, "n c h w"]]
"""Returns as many changed images."""


@dataclass(frozen=True)
class Augmentation:
    """Two ways to change images at random.

    An augmentation is called as function(images, rng), which gives its strong looks.

    Attributes:
        strong: the look that a network is trained on.
        weak: a look that hardly differs from the image, for pseudo-labels.
    """

    strong: Change
    weak: Change

    def __call__(
        self, images: Float[Tensor, "n c h w"], rng: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """Return strong looks of images.

        Args:
            images: with pixels in [0, 1].
            rng: a generator on the CPU.
        """
        return self.strong(images, rng)


def unchanged(images: Float[Tensor, "n *image"], rng: torch.Generator) -> Float[Tensor, "n *image"]:
    """Return the images as they are."""
    return images


def shifted(
    images: Float[Tensor, "n *image"], rng: torch.Generator, *, mirror: bool = False
) -> Float[Tensor, "n *image"]:
    """Shift each image by a few whole pixels and repeat its border; features are left alone.

    Args:
        images: of any kind.
        rng: a generator on the CPU.
        mirror: whether half of them are mirrored, too.
    """
    if images.ndim != 4:
        return images
    n, _, h, w = images.shape

    def offsets(side: int) -> Tensor:
        most = max(1, round(WEAK_SHIFT * side))
        places = torch.arange(side) + torch.randint(-most, most + 1, (n, 1), generator=rng)
        return places.clamp_(0, side - 1)

    rows, columns = offsets(h), offsets(w)
    if mirror:
        is_mirrored = torch.rand(n, 1, generator=rng) < 0.5
        columns = torch.where(is_mirrored, columns.flip(1), columns)
    each = torch.arange(n)[:, None, None]
    rows, columns, each = (x.to(images.device) for x in (rows, columns, each))
    # The channels come last when rows and columns are taken together.
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def shapes(
    images: Float[Tensor, "n c h w"], rng: torch.Generator, *, mirror: bool = False
) -> Float[Tensor, "n c h w"]:
    """Rotate, scale, shear, shift and bend each image, and repeat its border.

    The bends are smooth displacement fields, as in Simard, Steinkraus & Platt 2003.

    Args:
        images: with pixels in [0, 1].
        rng: a generator on the CPU.
        mirror: whether half of them are mirrored, too.
    """
    n = len(images)
    draw = _Draws(n, rng, images)
    angle, shear = draw(-ROTATION, ROTATION), draw(-SHEAR, SHEAR)
    wide, high = draw(-SCALE, SCALE).exp(), draw(-SCALE, SCALE).exp()
    if mirror:
        wide = torch.where(draw(0, 1) < 0.5, -wide, wide)
    right = torch.stack([angle.cos() * wide, -angle.sin() * high], 1)
    below = torch.stack([angle.sin() * wide, angle.cos() * high], 1) + shear.view(n, 1) * right
    across, down = draw(-2 * SHIFT, 2 * SHIFT), draw(-2 * SHIFT, 2 * SHIFT)  # a side is 2 long
    fields = _fields(*images.shape[2:])
    which = torch.randint(len(fields), (n,), generator=rng)
    bends = fields[which].to(images.device, images.dtype) * draw(0, BEND).view(n, 1, 1, 1)
    return _warp(
        images,
        torch.cat([right, across.view(n, 1)], 1),
        torch.cat([below, down.view(n, 1)], 1),
        bends,
    )


def photographs(images: Float[Tensor, "n c h w"], rng: torch.Generator) -> Float[Tensor, "n c h w"]:
    """Mirror half of the images, cut out a part of each, and change its light and colour.

    Args:
        images: with pixels in [0, 1].
        rng: a generator on the CPU.
    """
    n = len(images)
    draw = _Draws(n, rng, images)
    scale = draw(1 - ZOOM, 1)
    mirrored = torch.where(draw(0, 1) < 0.5, -scale, scale)
    across, down = draw(-1, 1) * (1 - scale), draw(-1, 1) * (1 - scale)
    zero = torch.zeros_like(scale)
    changed = _warp(
        images, torch.stack([mirrored, zero, across], 1), torch.stack([zero, scale, down], 1)
    )
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


NONE = Augmentation(unchanged, unchanged)
SHAPES = Augmentation(shapes, shifted)
DRAWINGS = Augmentation(
    functools.partial(shapes, mirror=True), functools.partial(shifted, mirror=True)
)
PHOTOGRAPHS = Augmentation(photographs, functools.partial(shifted, mirror=True))


class _Draws:
    """Draws a number for each image, uniformly.

    Args:
        n: how many images.
        rng: a generator on the CPU.
        images: on whose device, and in whose type.
    """

    def __init__(self, n: int, rng: torch.Generator, images: Tensor):
        self._n, self._rng, self._like = n, rng, images

    def __call__(self, low: float, high: float) -> Float[Tensor, "n"]:
        numbers = torch.rand(self._n, generator=self._rng)
        return (low + (high - low) * numbers).to(self._like.device, self._like.dtype)


def _warp(
    images: Float[Tensor, "n c h w"],
    across: Float[Tensor, "n 3"],
    down: Float[Tensor, "n 3"],
    bends: Float[Tensor, "n h w 2"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Return images where each pixel is read from another place, bilinearly.

    Args:
        images: with pixels in [0, 1].
        across: of each image, the horizontal place (−1 to 1) that is read for the place (x, y), as
            the coefficients of x, y and 1.
        down: the same of the vertical place.
        bends: added to the places, in half sides of the image.
    """
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    if bends is not None:
        grid = grid + bends
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@functools.lru_cache(maxsize=4)
def _fields(h: int, w: int) -> Float[Tensor, "f h w 2"]:
    """Return smooth random displacement fields of images of h × w pixels, in half sides."""
    noise = torch.randn(2 * FIELDS, 1, h, w, generator=torch.Generator().manual_seed(0))
    for dim, side in ((2, h), (3, w)):
        sigma = FIELD_WIDTH * side
        reach = math.ceil(3 * sigma)
        kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        padding = (reach, 0) if dim == 2 else (0, reach)
        noise = F.conv2d(noise, (kernel / kernel.sum()).view(shape), padding=padding)
    noise /= noise.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (2 * FIELD_SIZE * noise).view(FIELDS, 2, h, w).permute(0, 2, 3, 1).contiguous()
