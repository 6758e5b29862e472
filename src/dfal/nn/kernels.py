"""A convolution of few channels, its ReLU and its 2 × 2 max-pooling by compiled code.

Installing dfal compiles `kernels.c` where there is a C compiler (`hatch_build.py`), and a wheel has
it for its platform. Without it, or where `DFAL_KERNELS=0` is set, `dfal.nn.fast_layers` computes
the same by PyTorch's operations, but for rounding.
"""

import ctypes
import functools
import os
import platform
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.nn.fast_layers import Backward, add_grad

LIBRARY = Path(__file__).with_name("kernels.bin")
"""What `hatch_build.py` makes of `kernels.c`. Python would take the end .so for a module."""
LANES = 8
"""Images in a vector of the kernels: they are given a multiple of it."""
SIDES = (3, 5, 7)
"""Sides of the kernels' convolutions."""

_POINTERS_AND_SIZES = {"convolve": (5, 7), "unpool": (4, 4), "weights": (3, 6), "images": (3, 6)}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled code, or None where it is not there or not made for this processor."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if is_x86 and not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    if os.environ.get("DFAL_KERNELS") == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
        for name, (pointers, sizes) in _POINTERS_AND_SIZES.items():
            function = getattr(loaded, name)
            function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_long] * sizes
            function.restype = None
    except (AttributeError, OSError):
        return None
    return loaded


def suit(layer: nn.Conv2d, images: Tensor) -> bool:
    """Return whether a convolution of stride and dilation 1 and pooling are computed by kernels.

    They check nothing: images that the layer would refuse are left to PyTorch, which says so.
    """
    return (
        layer.kernel_size[0] == layer.kernel_size[1]
        and layer.kernel_size[0] in SIDES
        and images.ndim == 4
        and images.shape[1] == layer.in_channels
        and images.dtype == layer.weight.dtype == torch.float32
        and images.device.type == layer.weight.device.type == "cpu"
        and library() is not None
    )


def conv_relu_pool(
    layer: nn.Conv2d, relu: bool, images: Float32[Tensor, "n c h w"]
) -> tuple[Tensor, Backward]:
    """Convolve, apply ReLU if asked for, and pool.

    In each array the batch is the innermost dimension. The way back gives each gradient to the
    largest pixel of its block, as pooling does.
    """
    code = cast("ctypes.CDLL", library())
    weight = layer.weight.detach().contiguous()
    bias = None if layer.bias is None else layer.bias.detach().contiguous()
    o, k = layer.out_channels, layer.kernel_size[0]
    top, left = (int(side) for side in layer.padding)
    x = _in_vectors(images.permute(1, 2, 3, 0), (left, left, top, top))
    n, (c, h, w, lanes) = len(images), x.shape
    rows, columns = (h - k + 1) // 2, (w - k + 1) // 2
    sizes = c, h, w, lanes, o, k
    out = x.new_empty(o, rows, columns, lanes)
    place = torch.empty(out.shape, dtype=torch.int32)
    code.convolve(*_pointers(x, weight, bias, out, place), int(relu), *sizes)

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        pixels = x.new_empty(o, 2 * rows, 2 * columns, lanes)
        of_x = x.new_empty(len(gradient), *x.shape) if inputs else gradient
        for number, of_out in enumerate(gradient):
            of_bias = x.new_zeros(o)
            given = _in_vectors(of_out.float().permute(1, 2, 3, 0)), place, pixels, of_bias
            code.unpool(*_pointers(*given), rows, columns, lanes, o)
            if params:
                add_grads(pixels, of_bias)
            if inputs:
                code.images(*_pointers(pixels, weight, of_x[number]), *sizes)
        if not inputs:
            return gradient
        return of_x[..., top : h - top, left : w - left, :n].permute(0, 4, 1, 2, 3)

    def add_grads(pixels: Tensor, of_bias: Tensor) -> None:
        of_weight = torch.zeros_like(weight)
        code.weights(*_pointers(pixels, x, of_weight), *sizes)
        add_grad(layer.weight, lambda: of_weight)
        add_grad(layer.bias, lambda: of_bias)

    return out[..., :n].permute(3, 0, 1, 2), backward


def _in_vectors(
    x: Float32[Tensor, "c h w n"], edges: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Float32[Tensor, "c covered_h covered_w lanes"]:
    """Return images with a border, and as many more of zeros as whole vectors need."""
    return F.pad(x, (0, -x.shape[3] % LANES, *edges)).contiguous()


def _pointers(*tensors: Tensor | None) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
