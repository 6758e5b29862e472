"""Layers of a `FastSequential`: each computes its output and a function for the way back.

PyTorch's convolutions are made for many channels. For the one channel of an MNIST digit, the input
gradient of the first convolution alone takes longer than all the rest of LeNet5, and max-pooling as
long as a convolution. Here a convolution of few channels, its ReLU and its 2 × 2 max-pooling are
one matrix product (`conv_relu_pool`). The batch is the innermost dimension in memory, so that
cutting windows out and adding them up moves long runs.

Shapes: x is (n, *shape), and a gradient is (m, n, *shape), m gradients for each of n images, in
whatever strides suit.
"""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

CACHED_GRADIENT_NUMBERS = 2**19
"""Numbers of a gradient that `conv_relu_pool` has in memory at a time on the way back, so that they
stay in the processor's cache."""


@runtime_checkable
class Backward(Protocol):
    """Turns the gradient with respect to a layer's output into that with respect to its input.

    Args:
        gradient: (m, n, *output), m gradients for each image.
        params: whether to add the gradient of the layer's parameters to their `.grad`; m is 1 then.
        inputs: whether the gradient with respect to the input is needed; without it, what is
            returned means nothing.
    """

    def __call__(self, gradient: Tensor, *, params: bool, inputs: bool) -> Tensor: ...


Forward = Callable[[Tensor], tuple[Tensor, Backward]]
"""Computes a layer's output, and the function for the way back, as `torch.func.vjp` does."""


def linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Backward]:
    """Multiply by a matrix and add a bias."""

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        m, n, o = gradient.shape
        if params:
            add_grad(weight, lambda: gradient[0].T @ x)
            add_grad(bias, lambda: gradient[0].sum(0))
        if not inputs:
            return gradient
        columns = gradient.permute(2, 0, 1).reshape(o, m * n)
        return (weight.T @ columns).view(-1, m, n).permute(1, 2, 0)

    return F.linear(x, weight, bias), backward


def relu(x: Tensor) -> tuple[Tensor, Backward]:
    """Set negative values to 0."""
    out = x.relu()

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        return gradient * _above(out, 0)

    return out, backward


def flatten(x: Tensor) -> tuple[Tensor, Backward]:
    """Flatten each image into a row."""

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        return gradient.unflatten(2, x.shape[1:]) if x.ndim > 2 else gradient

    return x.flatten(1), backward


def dropout(layer: nn.Dropout, x: Tensor) -> tuple[Tensor, Backward]:
    """Apply dropout in the layer's mode, with p rounded to a multiple of 2⁻¹⁶."""
    dropped = round(layer.p * 2**16) if layer.training else 0
    if dropped == 0:
        return x, lambda gradient, *, params, inputs: gradient
    mask = _dropout_mask(x, dropped)

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        return gradient * mask

    return x * mask, backward


def _dropout_mask(x: Tensor, dropped: int) -> Tensor:
    """Draw a mask: 0 with probability p = dropped / 2¹⁶, else 1 / (1 − p).

    Drawing is most of dropout's cost, so that each random int64 decides for four numbers of x.
    """
    mask = torch.empty_like(x)
    int64s = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = int64s.view(torch.int16)[: x.numel()]  # uniform from −2¹⁵ to 2¹⁵ − 1
    if dropped == 2**16:
        return mask.zero_()
    in_memory_order = mask.as_strided(draws.shape, (1,))
    in_memory_order.copy_(draws >= dropped - 2**15)
    return mask.mul_(2**16 / (2**16 - dropped))


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Backward]:
    """Scale and shift each channel, as batch norm does in evaluation mode."""
    zero_and_one = torch.tensor([[0.0], [1.0]], dtype=x.dtype).expand(2, layer.num_features)
    at_0, at_1 = F.batch_norm(
        zero_and_one, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
    )
    scale: Tensor = (at_1 - at_0).view(-1, 1, 1)

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        return gradient * scale

    return x * scale + at_0.view(-1, 1, 1), backward


def conv2d(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Backward]:
    """Convolve by PyTorch's own functions."""
    options = layer.stride, _padding(layer), layer.dilation, layer.groups

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        weight = layer.weight
        if params:
            add_grad(weight, lambda: conv2d_weight(x, list(weight.shape), gradient[0], *options))
            add_grad(layer.bias, lambda: gradient[0].sum((0, 2, 3)))
        if not inputs:
            return gradient
        m, n = gradient.shape[:2]
        of_x: Tensor = conv2d_input([m * n, *x.shape[1:]], weight, gradient.flatten(0, 1), *options)
        return of_x.reshape(m, n, *x.shape[1:])

    return F.conv2d(x, layer.weight, layer.bias, *options), backward


def max_pool(x: Tensor) -> tuple[Tensor, Backward]:
    """Take the maximum of each block of 2 × 2 pixels."""
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2  # an odd last row or column is left out
    corners = [x[:, :, a:h:2, b:w:2] for a in range(2) for b in range(2)]
    blocks = torch.stack(corners).unflatten(0, (2, 2))
    row_max, out = _block_max(blocks)

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        mask = _pool_mask(blocks, row_max, torch.ones_like(out))
        of_x = gradient.new_zeros(*gradient.shape[:2], *x.shape[1:])
        for a in range(2):
            for b in range(2):
                torch.mul(gradient, mask[a, b], out=of_x[..., a:h:2, b:w:2])
        return of_x

    return out, backward


def conv_relu_pool(
    layer: nn.Conv2d, relu: bool, pool: bool, images: Tensor
) -> tuple[Tensor, Backward]:
    """Convolve, then apply ReLU and 2 × 2 max-pooling where asked for, by one matrix product.

    im2col cuts overlapping windows out of the images, one a column; the product with a kernel as a
    row is the convolution, and col2im, its transpose, adds the windows' gradients up. With pooling
    a window holds all that the s × s = 2 × 2 pixels of a block depend on: it is larger than the
    kernel by a pixel, and windows are 2 pixels apart. Each of the four pixels has a kernel of its
    own, shifted within the window, so that pooling is a maximum over rows of the product.

    A 3 × 3 kernel and a 6 × 6 image: the convolution is 4 × 4, pooled 2 × 2. Four windows of 4 × 4
    pixels are the columns, and the rows are the kernel at its four places:

        a b c 0    0 a b c    0 0 0 0    0 0 0 0
        d e f 0    0 d e f    a b c 0    0 a b c
        g h i 0    0 g h i    d e f 0    0 d e f
        0 0 0 0    0 0 0 0    g h i 0    0 g h i

    (4 × 16) @ (16 × 4) is 4 × 4: four pixels (rows) of each of four blocks (columns). Their maximum
    over the rows is the pooled image.

    Args:
        layer: a convolution of stride and dilation 1, without groups.
        relu: whether ReLU follows.
        pool: whether pooling follows.
        images: (n, c, h, w).
    """
    weight, bias, (top, left) = layer.weight, layer.bias, _padding(layer)
    s = 2 if pool else 1
    (n, c, h, w), (o, _, kernel_h, kernel_w) = images.shape, weight.shape
    out_h, out_w = (h + 2 * top - kernel_h + 1) // s, (w + 2 * left - kernel_w + 1) // s
    window_h, window_w = _window_side(kernel_h, s), _window_side(kernel_w, s)
    shifts = _shifts(kernel_h, kernel_w, s, weight.dtype)  # (kernel, s·s·window)
    # What the windows cover: more than the image, or less where a last row or column is left out.
    bottom = s * (out_h - 1) + window_h - h - top
    right = s * (out_w - 1) + window_w - w - left
    edges = (0, 0, left, right, top, bottom)
    x = F.pad(images.permute(1, 2, 3, 0), edges).contiguous()  # (c, covered h, covered w, n)
    columns = _im2col(x, (window_h, window_w), (out_h, out_w), s)  # (c·window, out·n)
    kernels = _shifted_kernels(weight, shifts, s)  # (s·s·o, c·window)
    y = (kernels @ columns).view(s, s, o, out_h * out_w * n)  # the pixels of each block
    row_max, out = _block_max(y) if pool else (y, y[0, 0])  # out: (o, out·n)
    if bias is not None:
        out += bias.unsqueeze(1)
    if relu:
        out.relu_()
    mask: Tensor | None = None

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        nonlocal mask
        if mask is None and (relu or pool):
            alive = _above(out, 0) if relu else torch.ones_like(out)
            mask = (_pool_mask(y, row_max, alive) if pool else alive).unsqueeze(-2)
        gradients = gradient.split(max(1, CACHED_GRADIENT_NUMBERS // columns.numel()))
        of_x = [backward_some(some, params=params, inputs=inputs) for some in gradients]
        return of_x[0] if len(of_x) == 1 else torch.cat(of_x)

    def backward_some(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        m = len(gradient)
        g = gradient.permute(2, 0, 3, 4, 1).reshape(o, m, out_h * out_w * n)
        if mask is not None:
            g = g * mask  # ([s, s,] o, m, out·n)
        g = g.reshape(s * s * o, -1)  # (s·s·o, m·out·n)
        if params:
            add_grad(bias, lambda: g.view(s * s, o, -1).sum((0, 2)))
            add_grad(weight, lambda: _fold_kernel_grad(g @ columns.T, shifts, o).view_as(weight))
        if not inputs:
            return gradient
        windows = (kernels.T @ g).view(c, window_h, window_w, m, out_h, out_w, n)
        of_x = _col2im(windows, s)  # (c, m, covered h, covered w, n)
        return F.pad(of_x, [-edge for edge in edges]).permute(1, 4, 0, 2, 3)  # (m, n, c, h, w)

    return out.view(o, out_h, out_w, n).permute(3, 0, 1, 2), backward


def _window_side(kernel_side: int, s: int) -> int:
    """Return the side of a window in which a kernel can be shifted by s − 1 pixels.

    It is rounded up to a multiple of s, as `_col2im` needs it.
    """
    return -(-(kernel_side + s - 1) // s) * s


def _im2col(
    x: Float[Tensor, "c h w n"], window: tuple[int, int], out: tuple[int, int], s: int
) -> Float[Tensor, "window_pixels positions"]:
    """Cut windows out of the images, s pixels apart.

    Column (p, q, n) is the window of image n whose upper left pixel is (s · p, s · q).
    """
    c, h, w, n = x.shape
    strides = (h * w * n, w * n, n, s * w * n, s * n, 1)
    windows = x.as_strided((c, *window, *out, n), strides)
    return windows.reshape(c * window[0] * window[1], out[0] * out[1] * n)


def _col2im(
    windows: Float[Tensor, "c window_h window_w m out_h out_w n"], s: int
) -> Float[Tensor, "c m h w n"]:
    """Add windows up where they overlap, the transpose of `_im2col`.

    Along rows, then along columns, s × s pixels at a time.
    """
    c, window_h, window_w, m, out_h, out_w, n = windows.shape
    i, j = window_h // s, window_w // s  # a window in blocks of s × s pixels
    blocks = windows.view(c, i, s, j, s, m, out_h, out_w, n)
    rows = windows.new_zeros(c, i, s, s, m, out_h, out_w + j - 1, n)
    for v in range(j):
        rows[..., v : v + out_w, :] += blocks[:, :, :, v]
    image = windows.new_zeros(c, s, s, m, out_h + i - 1, out_w + j - 1, n)
    for u in range(i):
        image[..., u : u + out_h, :, :] += rows[:, u]
    pixels = image.permute(0, 3, 4, 1, 5, 2, 6)  # (c, m, block row, s, block column, s, n)
    return pixels.reshape(c, m, s * (out_h + i - 1), s * (out_w + j - 1), n)


@functools.cache
def _shifts(
    kernel_h: int, kernel_w: int, s: int, dtype: torch.dtype
) -> Float[Tensor, "kernel_pixels shifted_pixels"]:
    """Return the matrix that places a kernel in its window at each of the s × s shifts.

    Row (i, j) has a 1 at the place of the kernel's pixel (i, j) for every shift.
    """
    pixels = torch.eye(kernel_h * kernel_w, dtype=dtype).view(-1, kernel_h, kernel_w)
    room_h, room_w = _window_side(kernel_h, s) - kernel_h, _window_side(kernel_w, s) - kernel_w
    shifted = [
        F.pad(pixels, (b, room_w - b, a, room_h - a)) for a in range(s) for b in range(s)
    ]  # (kernel, window_h, window_w) each
    return torch.stack(shifted, 1).view(kernel_h * kernel_w, -1)


def _shifted_kernels(
    weight: Float[Tensor, "o c kernel_h kernel_w"],
    shifts: Float[Tensor, "kernel_pixels shifted_pixels"],
    s: int,
) -> Float[Tensor, "shifted_o window_pixels"]:
    """Return the kernels in a window, at each of the s × s shifts."""
    o, c = weight.shape[:2]
    shifted = (weight.reshape(o * c, -1) @ shifts).view(o, c, s * s, -1)
    return shifted.permute(2, 0, 1, 3).reshape(s * s * o, -1)


def _fold_kernel_grad(
    gradient: Float[Tensor, "shifted_o window_pixels"],
    shifts: Float[Tensor, "kernel_pixels shifted_pixels"],
    o: int,
) -> Float[Tensor, "kernels kernel_pixels"]:
    """Add up the gradients of the shifted kernels, the transpose of `_shifted_kernels`."""
    shift_count = len(gradient) // o
    c = gradient.shape[1] * shift_count // shifts.shape[1]
    return gradient.view(shift_count, o, c, -1).permute(1, 2, 0, 3).reshape(o * c, -1) @ shifts.T


def _block_max(
    blocks: Float[Tensor, "2 2 *shape"],
) -> tuple[Float[Tensor, "2 *shape"], Float[Tensor, "*shape"]]:
    """Return the maximum of each row of a block of 2 × 2 pixels, and that of the block."""
    row_max = torch.maximum(blocks[:, 0], blocks[:, 1])
    return row_max, torch.maximum(row_max[0], row_max[1])


def _pool_mask(
    blocks: Float[Tensor, "2 2 *shape"],
    row_max: Float[Tensor, "2 *shape"],
    alive: Float[Tensor, "*shape"],
) -> Float[Tensor, "2 2 *shape"]:
    """Return `alive` for the largest pixel of each block, and 0 for the other three.

    Of equal pixels it is the first, as in PyTorch.
    """
    lower_row = alive * _above(row_max[1], row_max[0])
    rows = torch.stack([alive - lower_row, lower_row])
    right = rows * _above(blocks[:, 1], blocks[:, 0])
    return torch.stack([rows - right, right], 1)


def _above(a: Tensor, b: Tensor | float) -> Tensor:
    """Return 1 where a > b and 0 elsewhere, as floats."""
    # PyTorch is several times slower with booleans.
    return torch.gt(a, b, out=torch.empty_like(a))


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    top, left = (int(side) for side in layer.padding)
    return top, left


def add_grad(parameter: Tensor | None, gradient: Callable[[], Tensor]) -> None:
    """Add a gradient to a parameter's `.grad`, where the parameter is trained."""
    if parameter is not None and parameter.requires_grad:
        parameter.grad = gradient() if parameter.grad is None else parameter.grad.add_(gradient())
