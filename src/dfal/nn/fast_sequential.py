"""Fused forward and backward for known layers: what makes training and margins fast on a CPU.

A `FastSequential` computes the same numbers as the network (but for rounding) in another order:
convolutions of few channels as matrix products (`dfal.nn.fast_layers`), the gradients of all
classes backwards together, and, in evaluation, affine layers that follow one another as one, where
that has fewer weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.nn import fast_layers, kernels
from dfal.nn.evaluation import is_unchanged
from dfal.nn.fast_conv_linear import conv_linear, conv_linear_pair
from dfal.nn.fast_layers import Backward, Forward

MAX_FUSED_CHANNELS = 16
"""Input channels up to which a convolution, its ReLU and its pooling are one layer."""

MIN_CONV_LINEAR_IMAGES = 32
"""Images from which on it pays to make one matrix of a 1 × 1 convolution and a linear layer."""

POWER_ITERATIONS = 50
"""Iterations for a spectral norm."""


@dataclass(frozen=True)
class Layer:
    """A layer of a `FastSequential`.

    Attributes:
        forward: computes the output and the way back.
        affine: its part that can make a difference of inputs longer, a convolution or a matrix;
            None where nothing does.
        weights: how many weights it has where all of it is affine; None where it is not.
        random: whether its output differs from call to call.
    """

    forward: Forward
    affine: Forward | None = None
    weights: int | None = None
    random: bool = False


@dataclass(frozen=True)
class LipschitzBound:
    """How much a network's logits can change with its input.

    Attributes:
        constant: a Lipschitz constant (2-norm) of all layers before the last.
        last_matrix: the matrix of the last layer, one column a logit.
    """

    constant: float
    last_matrix: Float[Tensor, "d c"]


@dataclass(frozen=True)
class FastSequential:
    """A network as a list of layers, made by `fast_sequential`."""

    layers: tuple[Layer, ...]

    def __call__(self, images: Float[Tensor, "n *image"]) -> Tensor:
        """Return what the network returns."""
        return self.forward(images)[0]

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "n *image"]) -> tuple[Tensor, Backward]:
        """Return what the network returns, and the way back through all of it."""
        backwards: list[Backward] = []
        x = images
        for layer in self.layers:
            x, backward = layer.forward(x)
            backwards.append(backward)

        @torch.no_grad()
        def through(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
            for place in reversed(range(len(backwards))):
                gradient = backwards[place](gradient, params=params, inputs=inputs or place > 0)
            return gradient

        return x, through

    def split(self) -> tuple["FastSequential", "FastSequential"]:
        """Return the layers before the first random one, and the rest."""
        place = next(
            (place for place, layer in enumerate(self.layers) if layer.random), len(self.layers)
        )
        return FastSequential(self.layers[:place]), FastSequential(self.layers[place:])

    @torch.no_grad()
    def lipschitz_bound(self, image: Float[Tensor, "1 *image"]) -> LipschitzBound | None:
        """Bound how much the logits can change with the input.

        It is None if the last layer is not affine. The constant is the product of the layers'
        spectral norms; those of ReLU and max-pooling are 1. The others are found by iteration, from
        below, so that 5 % are added to each.
        """
        x, constant = image, 1.0
        for layer in self.layers[:-1]:
            if layer.affine is not None:
                constant *= 1.05 * _spectral_norm(layer.affine, x)
            x, _ = layer.forward(x)
        last = self.layers[-1]
        if last.weights is None or x.ndim != 2:
            return None
        rows, _ = last.forward(torch.eye(x.shape[1], dtype=x.dtype))
        offset, _ = last.forward(torch.zeros_like(x))
        return LipschitzBound(constant, rows - offset)


def _spectral_norm(affine: Forward, x: Tensor) -> float:
    """Return the largest singular value of an affine function of x, by power iteration."""
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    offset, squared = affine(torch.zeros_like(x))[0], 0.0
    for _ in range(POWER_ITERATIONS):
        y, backward = affine(v / v.norm())
        v = backward((y - offset).unsqueeze(0), params=False, inputs=True)[0]
        squared = float(v.norm())
    return math.sqrt(squared)


@torch.no_grad()
def fast_sequential(
    model: nn.Module, image: Float[Tensor, "1 *image"] | None = None
) -> FastSequential | None:
    """Return the network with fused layers, or None where that cannot be.

    It can be for an `nn.Sequential` of known layers on the CPU, over which no hook and no method is
    put.

    Args:
        model: shares its parameters and the modes of its dropout layers with what is returned.
        image: an example, for a network that is only evaluated: its parameters are taken as they
            are now, and affine layers that follow one another become one.
    """
    if not all(map(is_unchanged, model.modules())) or not _is_on_cpu(model):
        return None
    modules = list(_flat_modules(model))
    layers = _layers(modules)
    if not layers:
        return None
    layers = _fuse_convolutions(modules, layers)
    return FastSequential(tuple(layers if image is None else _fold_affine_layers(layers, image)))


def _is_on_cpu(model: nn.Module) -> bool:
    return all(tensor.device.type == "cpu" for tensor in [*model.parameters(), *model.buffers()])


def _flat_modules(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for module in model:
            yield from _flat_modules(module)
    else:
        yield model


def _conv2d(module: nn.Conv2d) -> Layer | None:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    if _has_few_channels(module):
        return _affine(
            partial(fast_layers.conv_relu_pool, module, False, False), module.weight.numel()
        )
    return _affine(partial(fast_layers.conv2d, module), module.weight.numel())


def _linear(module: nn.Linear) -> Layer:
    return _affine(partial(fast_layers.linear, module.weight, module.bias), module.weight.numel())


def _relu(module: nn.ReLU) -> Layer:
    return Layer(fast_layers.relu)


def _max_pool(module: nn.MaxPool2d) -> Layer | None:
    sides = (module.kernel_size, module.stride, module.padding, module.dilation)
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    if pairs != [(2, 2), (2, 2), (0, 0), (1, 1)] or module.ceil_mode or module.return_indices:
        return None
    return Layer(fast_layers.max_pool)


def _dropout(module: nn.Dropout) -> Layer:
    forward = partial(fast_layers.dropout, module)
    return Layer(forward, random=True) if module.training else Layer(forward, weights=0)


def _batch_norm(module: nn.BatchNorm2d) -> Layer | None:
    if module.training or module.running_mean is None:
        return None
    return _affine(partial(fast_layers.batch_norm, module), 2 * module.num_features)


def _flatten(module: nn.Flatten) -> Layer | None:
    if (module.start_dim, module.end_dim) != (1, -1):
        return None
    return Layer(fast_layers.flatten, weights=0)


def _affine(forward: Forward, weights: int) -> Layer:
    return Layer(forward, forward, weights)


BUILDERS: dict[type[nn.Module], Callable[[Any], Layer | None]] = {
    nn.Conv2d: _conv2d,
    nn.Linear: _linear,
    nn.ReLU: _relu,
    nn.MaxPool2d: _max_pool,
    nn.Dropout: _dropout,
    nn.BatchNorm2d: _batch_norm,
    nn.Flatten: _flatten,
}
"""The known types of layers, subclasses excluded; None from a builder means that a layer of such
settings is not known."""


def _layers(modules: Sequence[nn.Module]) -> list[Layer]:
    """Return a layer for each module; none at all where one of them is not known."""
    layers = []
    for module in modules:
        builder = BUILDERS.get(type(module))
        layer = builder(module) if builder is not None else None
        if layer is None:
            return []
        layers.append(layer)
    return layers


def _fuse_convolutions(modules: Sequence[nn.Module], layers: Sequence[Layer]) -> list[Layer]:
    """Make one layer of each convolution and what after it can be computed with it.

    That is ReLU and max-pooling after a convolution of few channels, and a linear layer after one
    of 1 × 1.
    """
    kinds = [type(module) for module in modules]
    fused = []
    place = 0
    while place < len(modules):
        convolution, layer = modules[place], layers[place]
        if pair := conv_linear_pair(modules[place:]):
            apart = FastSequential(tuple(layers[place : place + 3]))
            weights = sum(layer.weights or 0 for layer in apart.layers)
            fused.append(_affine(partial(_conv_linear, pair, apart), weights))
            place += 3
            continue
        place += 1
        if isinstance(convolution, nn.Conv2d) and _has_few_channels(convolution):
            relu = kinds[place : place + 1] == [nn.ReLU]
            place += relu
            pool = kinds[place : place + 1] == [nn.MaxPool2d]
            place += pool
            if relu or pool:
                forward = partial(_conv_relu_pool, convolution, relu, pool)
                layer = Layer(forward, layer.affine)
        fused.append(layer)
    return fused


def _conv_relu_pool(
    convolution: nn.Conv2d, relu: bool, pool: bool, x: Tensor
) -> tuple[Tensor, Backward]:
    """Convolve, apply ReLU and pool, by compiled code where that can be."""
    if pool and kernels.suit(convolution, x):
        return kernels.conv_relu_pool(convolution, relu, x)
    return fast_layers.conv_relu_pool(convolution, relu, pool, x)


def _conv_linear(
    pair: tuple[nn.Conv2d, nn.Linear], apart: FastSequential, x: Tensor
) -> tuple[Tensor, Backward]:
    """Make one matrix of a convolution and a linear layer where there are images enough."""
    if len(x) < MIN_CONV_LINEAR_IMAGES:
        return apart.forward(x)
    convolution, linear = pair
    return conv_linear(convolution, linear.weight, linear.bias, x)


def _has_few_channels(module: nn.Conv2d) -> bool:
    return (
        module.in_channels <= MAX_FUSED_CHANNELS
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
    )


def _fold_affine_layers(layers: Sequence[Layer], image: Tensor) -> Iterator[Layer]:
    """Make one layer of each run of affine layers, where that has fewer weights."""
    x, place = image, 0
    while place < len(layers):
        end = place
        while end < len(layers) and layers[end].weights is not None:
            end += 1
        run = FastSequential(tuple(layers[place : max(end, place + 1)]))
        y = run(x)
        weights = sum(layer.weights or 0 for layer in run.layers)
        if len(run.layers) > 1 and y.ndim == 2 and x[0].numel() * y.shape[1] < weights:
            if x.ndim > 2:
                yield Layer(fast_layers.flatten, weights=0)
            yield _folded(run, x, y.shape[1])
        else:
            yield from run.layers
        x, place = y, place + len(run.layers)


def _folded(run: FastSequential, x: Tensor, outputs: int) -> Layer:
    """Return a run of affine layers as one: its matrix is the gradient of its outputs."""
    offset, backward = run.forward(torch.zeros_like(x))
    cotangents = torch.eye(outputs, dtype=x.dtype).unsqueeze(1)
    matrix = backward(cotangents, params=False, inputs=True)[:, 0].flatten(1)
    return _affine(partial(fast_layers.linear, matrix, offset[0]), matrix.numel())
