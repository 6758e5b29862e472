"""Networks of common layers, forwards and backwards without autograd: what makes training and
margins fast on a CPU.

A `Chain` computes the same numbers as the network (but for rounding) in another order: convolutions
of few channels as matrix products (`dfal.nn.fast_layers`), the gradients of all
classes backwards together,
and, in evaluation, affine layers that follow one another as one, where that has fewer weights.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.nn import fast_layers
from dfal.nn.fast_layers import Apply, Back

FEW = 16
"""Input channels up to which a convolution is a matrix product of ours."""

ROUNDS = 50
"""Iterations for a spectral norm."""


@dataclass(frozen=True)
class Layer:
    """A layer of a chain.

    Attributes:
        apply: from an input to the output and the way back.
        affine: what changes lengths in it: its convolution or matrix; None where nothing makes them
        longer.
        weights: how many it has if all of it is affine; None if not.
        random: whether it does something else each time.
    """

    apply: Apply
    affine: Apply | None = None
    weights: int | None = None
    random: bool = False


@dataclass(frozen=True)
class FastSequential:
    """A network as a list of layers, which `chain` makes."""

    layers: tuple[Layer, ...]

    def __call__(self, images: Float[Tensor, "n *image"]) -> Tensor:
        """What the network returns."""
        return self.forward(images)[0]

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "n *image"]) -> tuple[Tensor, Back]:
        """What the network returns, and the way back through all of it."""
        ways: list[Back] = []
        x = images
        for layer in self.layers:
            x, back = layer.apply(x)
            ways.append(back)

        @torch.no_grad()
        def through(gradient: Tensor, *, learn: bool, inwards: bool) -> Tensor:
            for place in reversed(range(len(ways))):
                gradient = ways[place](gradient, learn=learn, inwards=inwards or place > 0)
            return gradient

        return x, through

    def split(self) -> tuple["FastSequential", "FastSequential"]:
        """What comes before the first random layer, and the rest."""
        place = next(
            (place for place, layer in enumerate(self.layers) if layer.random), len(self.layers)
        )
        return FastSequential(self.layers[:place]), FastSequential(self.layers[place:])

    @torch.no_grad()
    def steepness(
        self, image: Float[Tensor, "1 *image"]
    ) -> tuple[float, Float[Tensor, "d c"]] | None:
        """A Lipschitz constant (2-norm) of all layers before the last, and the matrix of the last;
        None if that is not affine.

        The constant is the product of the layers' spectral norms; those of ReLU and max-pooling are
        1. The others are found by iteration, from below, so that 5 % are added to each.
        """
        x, constant = image, 1.0
        for layer in self.layers[:-1]:
            if layer.affine is not None:
                constant *= 1.05 * _spectral_norm(layer.affine, x)
            x, _ = layer.apply(x)
        last = self.layers[-1]
        if last.weights is None or x.ndim != 2:
            return None
        return (
            constant,
            last.apply(torch.eye(x.shape[1], dtype=x.dtype))[0]
            - last.apply(torch.zeros_like(x))[0],
        )


def _spectral_norm(affine: Apply, x: Tensor) -> float:
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    offset, squared = affine(torch.zeros_like(x))[0], 0.0
    for _ in range(ROUNDS):
        y, back = affine(v / v.norm())
        v = back((y - offset).unsqueeze(0), learn=False, inwards=True)[0]
        squared = float(v.norm())
    return math.sqrt(squared)


@torch.no_grad()
def fast_sequential(
    model: nn.Module, image: Float[Tensor, "1 *image"] | None = None
) -> FastSequential | None:
    """The network as a chain; None unless it is an `nn.Sequential` of known layers on the CPU that
    no hook watches.

    Args:
        model: its parameters are shared with the chain, and so are the modes of its dropout layers.
        image: an example, for a chain that is only evaluated: its parameters are as they are now,
        affine layers are one.
    """
    found = [] if _elsewhere(model) else _layers(list(_flat(model)))
    if not found:
        return None
    return FastSequential(tuple(found if image is None else _folded(found, image)))


def _elsewhere(model: nn.Module) -> bool:
    watched = (
        one._forward_hooks
        or one._forward_pre_hooks
        or one._backward_hooks
        or one._backward_pre_hooks
        for one in model.modules()
    )
    return any(watched) or any(
        one.device.type != "cpu" for one in [*model.parameters(), *model.buffers()]
    )


def _flat(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for layer in model:
            yield from _flat(layer)
    else:
        yield model


def _layers(modules: list[nn.Module]) -> list[Layer]:
    """A layer for each module, or for several; none where one is unknown."""
    found = []
    while modules:
        module = modules.pop(0)
        if type(module) is nn.Conv2d and _usual(module):
            few = (
                module.in_channels <= FEW
                and module.stride == module.dilation == (1, 1)
                and module.groups == 1
            )
            relu = few and type(modules[0]) is nn.ReLU if modules else False
            pool = few and len(modules) > relu and _halves(modules[relu])
            del modules[: relu + pool]
            plain = (
                functools.partial(fast_layers.stage, module, False, False)
                if few
                else functools.partial(fast_layers.convolution, module)
            )
            full = (
                functools.partial(fast_layers.stage, module, relu, pool) if relu or pool else plain
            )
            found.append(Layer(full, plain, None if relu or pool else module.weight.numel()))
        elif type(module) is nn.Linear:
            found.append(
                _affine(
                    functools.partial(fast_layers.linear, module.weight, module.bias),
                    module.weight.numel(),
                )
            )
        elif type(module) is nn.ReLU:
            found.append(Layer(fast_layers.relu))
        elif _halves(module):
            found.append(Layer(fast_layers.pool))
        elif type(module) is nn.Dropout:
            dropout = functools.partial(fast_layers.dropout, module)
            found.append(
                Layer(dropout, random=True) if module.training else Layer(dropout, None, 0)
            )
        elif (
            type(module) is nn.BatchNorm2d
            and not module.training
            and module.running_mean is not None
        ):
            found.append(
                _affine(functools.partial(fast_layers.batch_norm, module), 2 * module.num_features)
            )
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            found.append(Layer(fast_layers.flatten, None, 0))
        else:
            return []
    return found


def _affine(apply: Apply, weights: int) -> Layer:
    return Layer(apply, apply, weights)


def _usual(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _halves(layer: nn.Module) -> bool:
    if type(layer) is not nn.MaxPool2d or layer.ceil_mode or layer.return_indices:
        return False
    sides = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return [(side, side) if isinstance(side, int) else tuple(side) for side in sides] == [
        (2, 2),
        (2, 2),
        (0, 0),
        (1, 1),
    ]


def _folded(unfolded: Sequence[Layer], image: Tensor) -> Iterator[Layer]:
    """Each run of affine layers as one, where that has fewer weights: its matrix is what goes
    back."""
    x, place = image, 0
    while place < len(unfolded):
        end = place
        while end < len(unfolded) and unfolded[end].weights is not None:
            end += 1
        run = FastSequential(tuple(unfolded[place : max(end, place + 1)]))
        y = run(x)
        weights = sum(layer.weights or 0 for layer in run.layers)
        if len(run.layers) > 1 and y.ndim == 2 and x[0].numel() * y.shape[1] < weights:
            offset, back = run.forward(torch.zeros_like(x))
            matrix = back(
                torch.eye(y.shape[1], dtype=x.dtype).unsqueeze(1), learn=False, inwards=True
            )[:, 0].flatten(1)
            if x.ndim > 2:
                yield Layer(fast_layers.flatten, None, 0)
            yield _affine(functools.partial(fast_layers.linear, matrix, offset[0]), matrix.numel())
        else:
            yield from run.layers
        x, place = y, place + len(run.layers)
