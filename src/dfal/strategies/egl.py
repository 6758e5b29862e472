"""EGL, expected gradient length (Settles, Craven & Ray 2008; Zhang, Lease & Wallace 2017): ask what
would move the network."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.errors import DfalError
from dfal.fields import added
from dfal.nn.features import affine_last_linear
from dfal.nn.inference import (
    at_least_float32,
    backward_errors,
    check_finite,
    default_modes,
    device_of,
    differentiable_logits,
    frozen_eval,
    prepare_images,
    shape_errors,
    unwrap_network,
)
from dfal.pool import Pool
from dfal.strategies.base import Ranking, chunks
from dfal.strategies.scores import head_gradient_length

PART = 128
"""Images whose gradients are in memory at a time."""


@dataclass(frozen=True)
class EGL(Ranking):
    """Asks about the largest Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖₂, ℓ the cross-entropy and θ all parameters
    that are trained.

    Attributes:
        last_layer: whether θ is the last linear layer alone: Σ_y p_y ‖p − e_y‖ √(‖x‖² + 1) with x
            its input, without a gradient.
        mean_gradient: the code that the DFAL paper's authors released: ‖(1/C) Σ_y ∇_θ ℓ(x, y)‖₂,
            the norm outside the sum and every class as likely as another. For studies of what that
            does.

    Cost: one forward and C backward passes a candidate; with `last_layer` one forward pass. Memory:
    the activations of PART images and, layer by layer, their gradients.
    """

    last_layer: bool = False
    mean_gradient: bool = added(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_layer and self.mean_gradient:
            raise DfalError(
                "last_layer and mean_gradient are two different methods: choose one of them"
            )

    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        found = []
        for _, images in chunks(pool, indices, device_of(model)):
            for part in images.split(PART):
                if self.last_layer:
                    found.append(_last_layer(model, part))
                else:
                    found.append(expected_gradient_length(model, part, mean=self.mean_gradient))
        return torch.cat(found).cpu()


EGL_LAST_LAYER = EGL(last_layer=True)
EGL_RELEASED = EGL(mean_gradient=True)


def _last_layer(model: nn.Module, images: Tensor) -> Float[Tensor, "n"]:
    end = affine_last_linear(model, images)
    length = head_gradient_length(end.logits, end.features, bias=end.layer.bias is not None)
    return (
        length / 2**0.5 if end.layer.out_features == 1 else length
    )  # (0, f): the gradient is that of one logit only


@default_modes()
def expected_gradient_length(
    model: nn.Module, images: Float[Tensor, "n *image"], *, mean: bool = False
) -> Float[Tensor, "n"]:
    """Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖₂ of each image, θ the parameters that require a gradient; with
    `mean` the length of the mean of the gradients of all classes.

    The gradient of a linear or convolutional layer is a product of what went in and what came back,
    so that its length is found for all images at once. A network with other parameters, or with
    layers that run twice or whose parameters are used without running them, is differentiated image
    by image, which is slow.

    Raises:
        DfalError: for NaN or infinite logits, and where the network computes without autograd.
    """
    names = {
        name
        for name, parameter in unwrap_network(model).named_parameters()
        if parameter.requires_grad
    }
    with frozen_eval(model, images[:1]) as network, shape_errors(images):
        images = at_least_float32(prepare_images(network, images))
        trained = [parameter for name, parameter in network.named_parameters() if name in names]
        return (
            _closed_form(network, images, trained, mean)
            if trained
            else torch.zeros(len(images), device=images.device)
        )


def _closed_form(
    network: nn.Module, images: Tensor, trained: list[nn.Parameter], mean: bool
) -> Float[Tensor, "n"]:
    layers = [module for module in network.modules() if _closed(module)]
    owned = [id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)]
    if len(set(owned)) < len(owned) or not {id(parameter) for parameter in trained} <= set(owned):
        return _one_by_one(network, images, trained, mean)
    wanted = {id(parameter) for parameter in trained}
    needs = {layer: (id(layer.weight) in wanted, id(layer.bias) in wanted) for layer in layers}
    ran: list[tuple[nn.Linear | nn.Conv2d, Tensor, Tensor]] = []

    def remember(
        layer: nn.Linear | nn.Conv2d,
        inputs: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        ran.append((layer, (inputs[0] if inputs else named["input"]).detach(), output))
        return output.clone()  # what comes next may work in place

    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # so that two uses of a parameter are two operations
    hooks = [
        layer.register_forward_hook(remember, with_kwargs=True)
        for layer in layers
        if any(needs[layer])
    ]
    try:
        with requiring_gradients(trained):
            f = check_finite(differentiable_logits(network, images))
    finally:
        torch.set_autocast_cache_enabled(cached)
        for hook in hooks:
            hook.remove()
    runs = Counter(
        id(parameter) for layer, _, _ in ran for parameter in layer.parameters(recurse=False)
    )
    used = _uses(f)
    if any(used[one] != runs[one] or used[one] > 1 for one in wanted) or any(
        len(x) != len(images) for _, x, _ in ran
    ):
        return _one_by_one(network, images, trained, mean)
    p = f.detach().softmax(1)
    expected = torch.zeros_like(p[:, 0])
    inputs = [_places(layer, at_least_float32(x)) for layer, x, _ in ran]
    for weight, back in _backs(p, mean):
        with backward_errors():
            found = torch.autograd.grad(
                f, [out for _, _, out in ran], back, retain_graph=True, allow_unused=True
            )
        squares = torch.zeros_like(expected)
        for (layer, _, _), x, g in zip(ran, inputs, found, strict=True):
            if g is not None:
                squares += _squared(
                    x,
                    at_least_float32(g if isinstance(layer, nn.Linear) else g.movedim(1, -1)),
                    *needs[layer],
                )
        expected += weight * squares.sqrt()
    return expected


def _uses(f: Tensor) -> Counter[int]:
    """Count how many operations of autograd's graph take each parameter, by its id."""
    counts: Counter[int] = Counter()
    todo: list[Any] = [f.grad_fn] if f.grad_fn is not None else []
    seen = set(todo)
    while todo:
        for node, _ in todo.pop().next_functions:
            if (variable := getattr(node, "variable", None)) is not None:
                counts[id(variable)] += 1
            elif node is not None and node not in seen:
                seen.add(node)
                todo.append(node)
    return counts


@contextlib.contextmanager
def requiring_gradients(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Let these parameters, which require none, require gradients in a block."""
    for parameter in parameters:
        parameter.requires_grad_()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def _backs(
    p: Float[Tensor, "n c"], mean: bool
) -> Iterator[tuple[Float[Tensor, "n"], Float[Tensor, "n c"]]]:
    """The gradients with respect to the logits whose lengths are added up, each with its
    weights."""
    if mean:
        yield torch.ones_like(p[:, 0]), p - 1 / p.shape[1]  # the mean of p − e_y over all y
        return
    for y in range(p.shape[1]):
        yield p[:, y], p - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)[y]  # ∇_f ℓ(x, y)


def _closed(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    plain_convolution = (
        isinstance(module, nn.Conv2d) and module.groups == 1 and not isinstance(module.padding, str)
    )
    return isinstance(module, nn.Linear) or (plain_convolution and module.padding_mode == "zeros")


def _places(layer: nn.Module, x: Tensor) -> Float[Tensor, "n l d"]:
    """What a layer multiplies by its weights at each of the l places of an image."""
    if isinstance(layer, nn.Conv2d):
        patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2)
    return x.reshape(len(x), -1, x.shape[-1])


def _squared(x: Float[Tensor, "n l d"], g: Tensor, weight: bool, bias: bool) -> Float[Tensor, "n"]:
    """‖Σ_l g_l x_lᵀ‖² + ‖Σ_l g_l‖²: the squared length of the gradients of weights and biases,
    where they are wanted."""
    g = g.reshape(len(g), x.shape[1], -1)
    squared = g.new_zeros(len(g))
    if weight and x.shape[1] * (x.shape[2] + g.shape[2]) < x.shape[2] * g.shape[2]:
        squared += (
            ((x @ x.mT) * (g @ g.mT)).sum((1, 2)).clamp(min=0)
        )  # without the gradient, which is larger
    elif weight:
        squared += (g.mT @ x).square().sum((1, 2))
    return squared + g.sum(1).square().sum(1) if bias else squared


def _one_by_one(
    network: nn.Module, images: Tensor, trained: list[nn.Parameter], mean: bool
) -> Float[Tensor, "n"]:
    lengths = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    with requiring_gradients(trained), torch.enable_grad():
        for i, image in enumerate(images.split(1)):
            f = check_finite(differentiable_logits(network, image))
            p = f.detach().softmax(1)
            for weight, back in _backs(p, mean):
                with backward_errors():
                    found = torch.autograd.grad(
                        f, trained, back, retain_graph=True, materialize_grads=True
                    )
                lengths[i] += (
                    weight[0]
                    * torch.stack([at_least_float32(g).square().sum() for g in found]).sum().sqrt()
                )
    return lengths
