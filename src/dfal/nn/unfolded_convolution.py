"""A convolution as one matrix product, for stacked networks."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, ...]


class UnfoldedConv2d(nn.Module):
    """A convolution as one matrix product of the patches of the images.

    Stacked networks are one batched matrix product then, and not a convolution of many groups, for
    which libraries are not made.

    Args:
        layer: the convolution, whose weights it takes over.
    """

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._size, self._stride = layer.kernel_size, layer.stride
        self._padding = [int(pixels) for pixels in layer.padding]

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o i j"]:
        vertical, horizontal = self._padding
        x = F.pad(x, (horizontal, horizontal, vertical, vertical)) if any(self._padding) else x
        shape = tuple(x.shape[2:])
        i, j = (
            (pixels - size) // stride + 1
            for pixels, size, stride in zip(shape, self._size, self._stride, strict=True)
        )
        rows: Tensor = _apply(_Patches, x, shape, self._size, self._stride)
        out = rows.flatten(0, 1) @ self.weight.flatten(1).T
        out = out if self.bias is None else out + self.bias
        return out.view(len(x), i, j, -1).permute(0, 3, 1, 2)


def _apply(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


class _Patches(torch.autograd.Function):
    """The patches of images as rows, whose gradient adds them up again; each is one operation."""

    @staticmethod
    def forward(x: Tensor, shape: Pair, size: Pair, stride: Pair) -> Tensor:
        """Return the patches (n, positions, channels × kernel) of images (n, c, h, w)."""
        patches = x.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1])
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.geometry = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _apply(_Sums, gradient, *ctx.geometry), None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], x: Tensor, *geometry: Pair) -> tuple[Tensor, int]:
        return _of_all(_Patches, info, dims, x, geometry)


class _Sums(torch.autograd.Function):
    """The sums of patches at their places, which is the gradient of `_Patches`."""

    @staticmethod
    def forward(rows: Tensor, shape: Pair, size: Pair, stride: Pair) -> Tensor:
        """Return images (n, c, h, w) of patches (n, positions, channels × kernel)."""
        return F.fold(rows.transpose(1, 2), shape, size, stride=stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.geometry = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _apply(_Patches, gradient, *ctx.geometry), None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], x: Tensor, *geometry: Pair) -> tuple[Tensor, int]:
        return _of_all(_Sums, info, dims, x, geometry)


def _of_all(
    function: Any, info: Any, dims: tuple[Any, ...], x: Tensor, geometry: tuple[Pair, ...]
) -> tuple[Tensor, int]:
    """Compute a function of the images of all networks at once."""
    every = x.movedim(dims[0], 0)
    return function.apply(every.flatten(0, 1), *geometry).unflatten(0, every.shape[:2]), 0


def can_be_unfolded(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution that `UnfoldedConv2d` computes."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
