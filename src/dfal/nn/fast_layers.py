"""The layers of a chain: what each makes of its input, and the gradient on its way back.

PyTorch's convolutions are made for many channels. For the one channel of an MNIST digit, the input
gradient of the first convolution alone takes longer than all the rest of LeNet5, and max-pooling as
long as a convolution. Here a convolution of few channels, its ReLU and its 2 × 2 max-pooling are
one matrix product, whose rows are the four pixels that are pooled, so that pooling is a maximum
over rows. The batch is the innermost dimension in memory, so that whatever moves does so in long
runs.

x is (n, *shape) and a gradient is (m, n, *shape): m gradients for each of n images, in whatever
strides suit.
"""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

CACHE = 2**19
"""Numbers of a gradient on its way through such a product that are in memory at a time, so that
they stay in the cache."""


@runtime_checkable
class Back(Protocol):
    """From the gradient with respect to a layer's output to that with respect to its input.

    Args:
        gradient: m gradients for each image.
        learn: whether to add the gradient of the layer's parameters to their `.grad`, too; m is 1.
        inwards: whether the gradient with respect to the input is wanted; what is returned
        otherwise means nothing.
    """

    def __call__(self, gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor: ...


Apply = Callable[[Tensor], tuple[Tensor, Back]]
"""From an input to the output and the way back."""


def linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Back]:
    """A matrix, and a bias."""

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        m, n, o = gradient.shape
        if learn:
            _learn(weight, lambda: gradient[0].T @ x)
            _learn(bias, lambda: gradient[0].sum(0))
        if not inwards:
            return gradient
        return (
            (weight.T @ gradient.permute(2, 0, 1).reshape(o, m * n)).view(-1, m, n).permute(1, 2, 0)
        )

    return F.linear(x, weight, bias), back


def relu(x: Tensor) -> tuple[Tensor, Back]:
    """What is above 0."""
    out = x.relu()

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        return gradient * _above(out, 0)

    return out, back


def flatten(x: Tensor) -> tuple[Tensor, Back]:
    """All pixels of an image in a row."""

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        return gradient.unflatten(2, x.shape[1:]) if x.ndim > 2 else gradient

    return x.flatten(1), back


def dropout(layer: nn.Dropout, x: Tensor) -> tuple[Tensor, Back]:
    """Four decisions for each random number drawn, which is most of dropout's cost: p is rounded to
    a multiple of 2⁻¹⁶."""
    drop = round(layer.p * 2**16) if layer.training else 0
    factors = torch.ones(()) if drop == 0 else torch.empty_like(x)
    if drop:
        drawn = (
            torch.empty(-(-x.numel() // 4), dtype=torch.int64)
            .random_(-(2**63), None)
            .view(torch.int16)[: x.numel()]
        )
        (
            factors.as_strided(drawn.shape, (1,)).copy_(drawn >= drop - 2**15)
            if drop < 2**16
            else factors.zero_()
        )
        factors *= 2**16 / max(2**16 - drop, 1)

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        return gradient * factors if drop else gradient

    return x * factors if drop else x, back


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Back]:
    """In evaluation: a scale and a shift for each channel."""
    ends = torch.tensor([[0.0], [1.0]], dtype=x.dtype).expand(2, layer.num_features)
    shift, end = F.batch_norm(
        ends, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
    )
    scale: Tensor = (end - shift).view(-1, 1, 1)

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        return gradient * scale

    return x * scale + shift.view(-1, 1, 1), back


def convolution(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Back]:
    """Any convolution, PyTorch's way."""
    how = layer.stride, _padding(layer), layer.dilation, layer.groups

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        if learn:
            _learn(
                layer.weight, lambda: conv2d_weight(x, list(layer.weight.shape), gradient[0], *how)
            )
            _learn(layer.bias, lambda: gradient[0].sum((0, 2, 3)))
        if not inwards:
            return gradient
        m, n = gradient.shape[:2]
        to: Tensor = conv2d_input([m * n, *x.shape[1:]], layer.weight, gradient.flatten(0, 1), *how)
        return to.reshape(m, n, *x.shape[1:])

    return F.conv2d(x, layer.weight, layer.bias, *how), back


def pool(x: Tensor) -> tuple[Tensor, Back]:
    """2 × 2 max-pooling."""
    p, q = x.shape[2] // 2, x.shape[3] // 2
    y = torch.stack(
        [x[:, :, a : 2 * p : 2, b : 2 * q : 2] for a in range(2) for b in range(2)]
    ).unflatten(0, (2, 2))
    best, out = _largest(y)

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        passes = _passes(y, best, torch.ones_like(out))
        to = gradient.new_zeros(*gradient.shape[:2], *x.shape[1:])
        for a in range(2):
            for b in range(2):
                torch.mul(gradient, passes[a, b], out=to[..., a : 2 * p : 2, b : 2 * q : 2])
        return to

    return out, back


def stage(layer: nn.Conv2d, relu: bool, pool: bool, images: Tensor) -> tuple[Tensor, Back]:
    """A convolution, then ReLU and 2 × 2 max-pooling where asked for."""
    weight, bias, (above, left) = layer.weight, layer.bias, _padding(layer)
    s = 1 + pool
    x = images.permute(1, 2, 3, 0)
    (c, h, w, n), (o, _, i, j) = x.shape, weight.shape
    p, q = (h + 2 * above - i + 1) // s, (w + 2 * left - j + 1) // s
    spread = _spread(i, j, s, weight.dtype)
    i, j = _larger(i, s), _larger(j, s)
    edges = (0, 0, left, s * (q - 1) + j - w - left, above, s * (p - 1) + i - h - above)
    x = F.pad(x, edges).contiguous()
    h, w = x.shape[1:3]
    columns = x.as_strided((c, i, j, p, q, n), (h * w * n, w * n, n, s * w * n, s * n, 1)).reshape(
        c * i * j, p * q * n
    )
    kernel = (
        (weight.reshape(o * c, -1) @ spread)
        .view(o, c, s * s, -1)
        .permute(2, 0, 1, 3)
        .reshape(s * s * o, -1)
    )
    y = (kernel @ columns).view(s, s, o, p * q * n)
    best, out = _largest(y) if pool else (y, y[0, 0])
    if bias is not None:
        out += bias.unsqueeze(1)
    if relu:
        out.relu_()

    passes: list[Tensor] = []

    def back(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        if not passes:
            alive = _above(out, 0) if relu else torch.ones_like(out)
            passes.append(_passes(y, best, alive) if pool else alive)
        some = max(1, CACHE // columns.numel())
        parts = [back_some(part, learn=learn, inwards=inwards) for part in gradient.split(some)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def back_some(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
        m = len(gradient)
        g = gradient.permute(2, 0, 3, 4, 1).reshape(o, m, p * q * n)
        if relu or pool:
            g = g * passes[0].unsqueeze(-2)
        g = g.reshape(s * s * o, -1)
        if learn:
            _learn(bias, lambda: g.view(s * s, o, -1).sum((0, 2)))
            _learn(weight, lambda: _together(g @ columns.T, spread, o).view_as(weight))
        if not inwards:
            return gradient
        to = _overlapping((kernel.T @ g).view(c, i, j, m, p, q, n), s)
        return F.pad(to, [-edge for edge in edges]).permute(1, 4, 0, 2, 3)

    return out.view(o, p, q, n).permute(3, 0, 1, 2), back


def _larger(side: int, s: int) -> int:
    """A side of the kernel with room to be shifted by s − 1 pixels, as a multiple of s."""
    return -(-(side + s - 1) // s) * s


@functools.cache
def _spread(i: int, j: int, s: int, dtype: torch.dtype) -> Float[Tensor, "ij k"]:
    """What makes of an i × j kernel the larger ones of the s × s pixels that are pooled."""
    pixels = torch.eye(i * j, dtype=dtype).view(i * j, i, j)
    more = _larger(i, s) - i, _larger(j, s) - j
    kernels = [F.pad(pixels, (b, more[1] - b, a, more[0] - a)) for a in range(s) for b in range(s)]
    return torch.stack(kernels, 1).view(i * j, -1)


def _overlapping(parts: Float[Tensor, "c i j m p q n"], s: int) -> Float[Tensor, "c m h w n"]:
    """Windows of i × j pixels, s apart, added up where they overlap: along rows, then along
    columns, s × s pixels at a time."""
    c, i, j, m, p, q, n = parts.shape
    i, j = i // s, j // s
    blocks = parts.view(c, i, s, j, s, m, p, q, n)
    rows = parts.new_zeros(c, i, s, s, m, p, q + j - 1, n)
    for v in range(j):
        rows[..., v : v + q, :] += blocks[:, :, :, v]
    to = parts.new_zeros(c, s, s, m, p + i - 1, q + j - 1, n)
    for u in range(i):
        to[..., u : u + p, :, :] += rows[:, u]
    return to.permute(0, 3, 4, 1, 5, 2, 6).reshape(c, m, s * (p + i - 1), s * (q + j - 1), n)


def _together(kernels: Tensor, spread: Tensor, o: int) -> Tensor:
    """The other way: the gradients of those kernels as one of the kernel they are made of."""
    s2 = len(kernels) // o
    c = kernels.shape[1] * s2 // spread.shape[1]
    return kernels.view(s2, o, c, -1).permute(1, 2, 0, 3).reshape(o * c, -1) @ spread.T


def _largest(
    y: Float[Tensor, "2 2 *shape"],
) -> tuple[Float[Tensor, "2 *shape"], Float[Tensor, "*shape"]]:
    best = torch.maximum(y[:, 0], y[:, 1])
    return best, torch.maximum(best[0], best[1])


def _passes(y: Tensor, best: Tensor, alive: Tensor) -> Float[Tensor, "2 2 *shape"]:
    """`alive` for the pixel that is the largest, the first of equal ones as in PyTorch, and 0 for
    the other three."""
    low = alive * _above(best[1], best[0])
    rows = torch.stack([alive - low, low])
    right = rows * _above(y[:, 1], y[:, 0])
    return torch.stack([rows - right, right], 1)


def _above(a: Tensor, b: Tensor | float) -> Tensor:
    """1 where a > b, 0 elsewhere. As floats: PyTorch is several times slower with booleans."""
    return torch.gt(a, b, out=torch.empty_like(a))


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    above, left = (int(side) for side in layer.padding)
    return above, left


def _learn(parameter: Tensor | None, gradient: Callable[[], Tensor]) -> None:
    if parameter is not None and parameter.requires_grad:
        parameter.grad = gradient() if parameter.grad is None else parameter.grad.add_(gradient())
