"""Augmentations: random changes of images that leave their class as it is.

`dfal.nn.AUGMENTATIONS` lists them. All draw from the generator that they are given, which is on the
CPU, so that every device draws the same.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
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

Change = Callable[[Float[Tensor, "n *image"], torch.Generator], Float[Tensor, "n *image"]]
"""Returns as many changed images."""
Shape = tuple[int, ...]
"""Of one image, channels first."""


class Range(NamedTuple):
    """The numbers of which each image draws one, uniformly.

    Attributes:
        low, high: the bounds; the upper one is left out.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    whole: bool = False

    def draw(self, n: int, rng: torch.Generator) -> Shaped[Tensor, "n"]:
        """Draw n numbers: int64 where they are whole, else float32."""
        if self.whole:
            return torch.randint(int(self.low), int(self.high), (n,), generator=rng)
        return self.at(torch.rand(n, generator=rng))

    def at(self, uniform: Float[Tensor, "n"]) -> Shaped[Tensor, "n"]:
        """Return the numbers for draws from [0, 1)."""
        scaled = (self.high - self.low) * uniform
        if self.whole:
            return scaled.long().clamp_max_(int(self.high - self.low) - 1) + int(self.low)
        return self.low + scaled


Numbers = Mapping[str, Shaped[Tensor, "n"]]
"""What each image has drawn, by name."""
Apply = Callable[[Float[Tensor, "n *image"], Numbers], Float[Tensor, "n *image"]]
"""Returns as many changed images."""


@dataclass(frozen=True)
class DrawnChange:
    """A change of images by numbers that are drawn before.

    It is called as function(images, rng). Where the numbers come from somewhere else, `prepare`
    returns what takes them.

    Attributes:
        ranges: returns of which numbers an image of some shape draws one each, by name; none for
            images that are left alone.
        prepare: returns the function that changes images of some shape on a device.
    """

    ranges: Callable[[Shape], Mapping[str, Range]]
    prepare: Callable[[Shape, torch.device], Apply]

    def __call__(
        self, images: Float[Tensor, "n *image"], rng: torch.Generator
    ) -> Float[Tensor, "n *image"]:
        """Return changed images.

        Args:
            images: with pixels in [0, 1].
            rng: a generator on the CPU.
        """
        shape = tuple(images.shape[1:])
        numbers = {name: each.draw(len(images), rng) for name, each in self.ranges(shape).items()}
        if not numbers:
            return images
        return self.prepare(shape, images.device)(images, of_type(numbers, images))


def of_type(numbers: Numbers, images: Tensor) -> Numbers:
    """Return numbers on the device of images and, but for whole ones, in their type."""
    return {
        name: each.to(images.device, images.dtype if each.is_floating_point() else each.dtype)
        for name, each in numbers.items()
    }


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


def _shift_ranges(shape: Shape, *, mirror: bool) -> dict[str, Range]:
    if len(shape) != 3:
        return {}
    down, across = (max(1, round(WEAK_SHIFT * side)) for side in shape[1:])
    return {
        "down": Range(-down, down + 1, whole=True),
        "across": Range(-across, across + 1, whole=True),
    } | _mirror_range(mirror)


def _mirror_range(mirror: bool) -> dict[str, Range]:
    return {"mirror": Range(0, 1)} if mirror else {}


def _shift(images: Float[Tensor, "n c h w"], numbers: Numbers) -> Float[Tensor, "n c h w"]:
    n, _, h, w = images.shape
    rows, columns = _places(h, numbers["down"]), _places(w, numbers["across"])
    if "mirror" in numbers:
        is_mirrored = numbers["mirror"].unsqueeze(1) < 0.5
        columns = torch.where(is_mirrored, columns.flip(1), columns)
    each = torch.arange(n, device=images.device)[:, None, None]
    # The channels come last when rows and columns are taken together.
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def _places(side: int, offsets: Int64[Tensor, "n"]) -> Int64[Tensor, "n side"]:
    """Return which of the pixels along a side come to its places."""
    places = torch.arange(side, device=offsets.device) + offsets.unsqueeze(1)
    return places.clamp_(0, side - 1)


def _shape_ranges(shape: Shape, *, mirror: bool) -> dict[str, Range]:
    return {
        "angle": Range(-ROTATION, ROTATION),
        "shear": Range(-SHEAR, SHEAR),
        "wide": Range(-SCALE, SCALE),
        "high": Range(-SCALE, SCALE),
        **_mirror_range(mirror),
        "across": Range(-2 * SHIFT, 2 * SHIFT),  # a side is 2 long
        "down": Range(-2 * SHIFT, 2 * SHIFT),
        "field": Range(0, FIELDS, whole=True),
        "bend": Range(0, BEND),
    }


def _prepare_shapes(shape: Shape, device: torch.device) -> Apply:
    fields = _fields(*shape[1:], device)

    def change(images: Float[Tensor, "n c h w"], numbers: Numbers) -> Float[Tensor, "n c h w"]:
        n, angle = len(images), numbers["angle"]
        wide, high = numbers["wide"].exp(), numbers["high"].exp()
        if "mirror" in numbers:
            wide = torch.where(numbers["mirror"] < 0.5, -wide, wide)
        right = torch.stack([angle.cos() * wide, -angle.sin() * high], 1)
        below = torch.stack([angle.sin() * wide, angle.cos() * high], 1)
        below = below + numbers["shear"].view(n, 1) * right
        bends = fields[numbers["field"]].to(images.dtype) * numbers["bend"].view(n, 1, 1, 1)
        return _warp(
            images,
            torch.cat([right, numbers["across"].view(n, 1)], 1),
            torch.cat([below, numbers["down"].view(n, 1)], 1),
            bends,
        )

    return change


def _photograph_ranges(shape: Shape) -> dict[str, Range]:
    factors = Range(1 - COLOUR, 1 + COLOUR)
    return {
        "scale": Range(1 - ZOOM, 1),
        "mirror": Range(0, 1),
        "across": Range(-1, 1),
        "down": Range(-1, 1),
        "brightness": factors,
        "contrast": factors,
        "saturation": factors,
    }


def _photograph(images: Float[Tensor, "n c h w"], numbers: Numbers) -> Float[Tensor, "n c h w"]:
    n, scale = len(images), numbers["scale"]
    mirrored = torch.where(numbers["mirror"] < 0.5, -scale, scale)
    across, down = numbers["across"] * (1 - scale), numbers["down"] * (1 - scale)
    zero = torch.zeros_like(scale)
    changed = _warp(
        images, torch.stack([mirrored, zero, across], 1), torch.stack([zero, scale, down], 1)
    )
    brightness, contrast, saturation = (
        numbers[name].view(n, 1, 1, 1) for name in ("brightness", "contrast", "saturation")
    )
    changed = changed * brightness
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + contrast * (changed - mean)
    if images.shape[1] == 3:
        red, green, blue = (weight * changed[:, [i]] for i, weight in enumerate(LUMA))
        grey = red + green + blue
        changed = grey + saturation * (changed - grey)
    return changed.clamp(0, 1)


unchanged = DrawnChange(lambda shape: {}, lambda shape, device: lambda images, numbers: images)
"""Leaves images as they are."""
shifted, mirrored_and_shifted = (
    DrawnChange(functools.partial(_shift_ranges, mirror=mirror), lambda shape, device: _shift)
    for mirror in (False, True)
)
"""Shift each image by a few whole pixels and repeat its border, the latter after mirroring half of
them; features are left alone."""
shapes, drawings = (
    DrawnChange(functools.partial(_shape_ranges, mirror=mirror), _prepare_shapes)
    for mirror in (False, True)
)
"""Rotate, scale, shear, shift and bend each image, and repeat its border, the latter after
mirroring half of them. The bends are smooth displacement fields, as in Simard, Steinkraus & Platt
2003."""
photographs = DrawnChange(_photograph_ranges, lambda shape, device: _photograph)
"""Mirrors half of the images, cuts out a part of each, and changes its light and colour."""

NONE = Augmentation(unchanged, unchanged)
SHAPES = Augmentation(shapes, shifted)
DRAWINGS = Augmentation(drawings, mirrored_and_shifted)
PHOTOGRAPHS = Augmentation(photographs, mirrored_and_shifted)


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
def _fields(h: int, w: int, device: torch.device) -> Float[Tensor, "f h w 2"]:
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
    fields = (2 * FIELD_SIZE * noise).view(FIELDS, 2, h, w).permute(0, 2, 3, 1).contiguous()
    return fields.to(device)
