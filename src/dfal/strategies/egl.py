"""EGL, expected gradient length: images whose labels would change the network most.

Source: Settles, Craven & Ray 2008; Zhang, Lease & Wallace 2017.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.errors import DfalError
from dfal.fields import added
from dfal.nn.evaluation import default_modes, frozen_eval, is_unchanged, unwrap_network
from dfal.nn.features import affine_last_linear
from dfal.nn.inference import backward_errors, check_finite, differentiable_logits
from dfal.nn.network_input import at_least_float32, device_of, prepare_images, shape_errors
from dfal.nn.passes import images_a_pass
from dfal.pool import Pool
from dfal.strategies.base import Ranking, chunks
from dfal.strategies.scores import head_gradient_length

GRADIENT_BATCH = 128
"""Images whose gradients are in memory at a time."""


@dataclass(frozen=True)
class EGL(Ranking):
    """Query the largest expected gradient length Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖₂.

    ℓ is the cross-entropy and θ all parameters that are trained.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
        last_layer: whether θ is the last linear layer alone: Σ_y p_y ‖p − e_y‖ √(‖x‖² + 1) with x
            its input, without a backward pass.
        mean_gradient: the code that the DFAL paper's authors released: ‖(1/C) Σ_y ∇_θ ℓ(x, y)‖₂,
            the norm outside the sum and every class as probable as another. For studies of its
            effect.

    Source: Settles, Craven & Ray 2008.
    Cost: one forward and C backward passes a candidate; with `last_layer` one forward pass.
    Memory: the activations of GRADIENT_BATCH images and, layer by layer, their gradients.
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
        lengths = [
            last_layer_gradient_length(model, batch)
            if self.last_layer
            else expected_gradient_length(model, batch, mean=self.mean_gradient)
            for _, images in chunks(pool, indices, device_of(model))
            for batch in images.split(images_a_pass(images, GRADIENT_BATCH))
        ]
        return torch.cat(lengths).cpu()


EGL_LAST_LAYER = EGL(last_layer=True)
EGL_RELEASED = EGL(mean_gradient=True)


def last_layer_gradient_length(
    model: nn.Module, images: Float[Tensor, "n *image"]
) -> Float[Tensor, "n"]:
    """Return the expected gradient length of each image over the last linear layer."""
    end = affine_last_linear(model, images)
    length = head_gradient_length(end.logits, end.features, bias=end.layer.bias is not None)
    # One logit f stands for the logits (0, f), of which only one has a gradient.
    return length / 2**0.5 if end.layer.out_features == 1 else length


@default_modes()
def expected_gradient_length(
    model: nn.Module, images: Float[Tensor, "n *image"], *, mean: bool = False
) -> Float[Tensor, "n"]:
    """Return Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖₂ of each image over all parameters that require a gradient.

    Where `LayerGradients` applies, all images are computed at once; elsewhere each is
    differentiated on its own, which is slow. torch.func is not used for those: a network may work
    in place or branch on its values, which `vmap` cannot follow.

    Args:
        model: the network.
        images: the batch.
        mean: whether to return the length of the mean of the gradients of all classes instead.

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
        if not trained:
            return torch.zeros(len(images), device=images.device)
        layers = LayerGradients(network, trained)
        if layers.own_all_parameters:
            f = layers.forward(images)
            if layers.ran_once_each(len(images)):
                return _expected_length(f, layers.lengths, mean=mean)
        lengths = [_length_of_image(network, image, trained, mean) for image in images.split(1)]
        return torch.cat(lengths).to(images.dtype)


def _length_of_image(
    network: nn.Module, image: Tensor, trained: list[nn.Parameter], mean: bool
) -> Float[Tensor, "1"]:
    """Return the expected gradient length of one image, by one backward pass a class."""
    with requiring_gradients(trained), torch.enable_grad():
        f = check_finite(differentiable_logits(network, image))

        def length(error: Tensor) -> Float[Tensor, "1"]:
            with backward_errors():
                gradients = torch.autograd.grad(
                    f, trained, error, retain_graph=True, materialize_grads=True
                )
            squares = [at_least_float32(gradient).square().sum() for gradient in gradients]
            return torch.stack(squares).sum().sqrt().unsqueeze(0)

        return _expected_length(f, length, mean=mean)


def _expected_length(
    f: Float[Tensor, "n c"], length: Callable[[Tensor], Tensor], *, mean: bool
) -> Float[Tensor, "n"]:
    """Return Σ_y p(y|x) ‖∇_θ ℓ(x, y)‖ of each image.

    Args:
        f: logits.
        length: from ∇_f ℓ, of the shape of f, to the length ‖∇_θ ℓ‖ of each image.
        mean: whether to return the length of the mean gradient instead.
    """
    p = f.detach().softmax(1)
    if mean:
        return length(p - 1 / p.shape[1])  # the mean of p − e_y over all y
    expected = torch.zeros_like(p[:, 0])
    for y, e_y in enumerate(torch.eye(p.shape[1], dtype=p.dtype, device=p.device)):
        expected += p[:, y] * length(p - e_y)  # ∇_f ℓ(x, y)
    return expected


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


@dataclass(frozen=True)
class _LayerRun:
    """One run of a linear or convolutional layer on a batch.

    Attributes:
        layer: which one.
        input: what it was given, of shape (n, …).
        output: what it returned, a node of autograd's graph.
        weight: whether the length counts the gradient of its weights.
        bias: whether it counts that of its biases.
    """

    layer: nn.Linear | nn.Conv2d
    input: Tensor
    output: Tensor
    weight: bool
    bias: bool

    @cached_property
    def rows(self) -> Float[Tensor, "n l d"]:
        """Return what the layer multiplies by its weights at each of the l places of an image."""
        x = at_least_float32(self.input)
        if isinstance(self.layer, nn.Conv2d):
            conv = self.layer
            patches = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)  # type: ignore[arg-type]
            return patches.transpose(1, 2)
        return x.reshape(len(x), -1, x.shape[-1])

    def squared_length(self, g: Tensor) -> Float[Tensor, "n"]:
        """Return ‖Σ_l g_l x_lᵀ‖² + ‖Σ_l g_l‖²: the squared length of its parameters' gradients.

        Args:
            g: the gradient with respect to the output.
        """
        x = self.rows
        g = at_least_float32(g if isinstance(self.layer, nn.Linear) else g.movedim(1, -1))
        g = g.reshape(len(g), x.shape[1], -1)
        squared = g.new_zeros(len(g))
        if self.weight and x.shape[1] * (x.shape[2] + g.shape[2]) < x.shape[2] * g.shape[2]:
            # By two (l, l) products rather than by the gradient, which is larger.
            squared += ((x @ x.mT) * (g @ g.mT)).sum((1, 2)).clamp(min=0)
        elif self.weight:
            squared += (g.mT @ x).square().sum((1, 2))
        return squared + g.sum(1).square().sum(1) if self.bias else squared


class LayerGradients:
    """Gradient lengths of linear and convolutional layers, for all images of a batch at once.

    The gradient of such a layer's weights is Σ_l g_l x_lᵀ over the places l of an image, where x
    went in and g came back. That holds for the whole network where every trained parameter belongs
    to one such layer (`own_all_parameters`), which runs once on the whole batch, while nothing else
    uses the parameter (`ran_once_each`).

    Args:
        network: in evaluation mode, none of its parameters requiring a gradient.
        trained: the parameters over which the length is taken.
    """

    def __init__(self, network: nn.Module, trained: list[nn.Parameter]):
        self.network, self.trained = network, trained
        self._wanted = {id(parameter) for parameter in trained}
        self._layers = [module for module in network.modules() if _has_closed_form(module)]
        self._runs: list[_LayerRun] = []
        self._logits = torch.empty(0, 0)

    @property
    def own_all_parameters(self) -> bool:
        """Return whether every trained parameter belongs to one of the layers, and to no other."""
        owned = [
            id(parameter) for layer in self._layers for parameter in layer.parameters(recurse=False)
        ]
        return len(set(owned)) == len(owned) and self._wanted <= set(owned)

    def forward(self, images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        """Return the logits; what goes into the layers and out of them is recorded.

        Raises:
            DfalError: for NaN or infinite logits, and where the network computes without autograd.
        """
        self._runs = []
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # so that two uses of a parameter are two nodes
        hooks = [
            layer.register_forward_hook(self._record, with_kwargs=True)
            for layer in self._layers
            if not self._wanted.isdisjoint(map(id, layer.parameters(recurse=False)))
        ]
        try:
            with requiring_gradients(self.trained):
                self._logits = check_finite(differentiable_logits(self.network, images))
        finally:
            torch.set_autocast_cache_enabled(cached)
            for hook in hooks:
                hook.remove()
        return self._logits

    def _record(
        self,
        layer: nn.Linear | nn.Conv2d,
        arguments: tuple[Tensor, ...],
        keywords: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        """Record a run; what comes next is given a copy of the output, as it may work in place."""
        x = (arguments[0] if arguments else keywords["input"]).detach()
        weight, bias = (id(parameter) in self._wanted for parameter in (layer.weight, layer.bias))
        self._runs.append(_LayerRun(layer, x, output, weight, bias))
        return output.clone()

    def ran_once_each(self, images: int) -> bool:
        """Return whether each layer ran once on all images, and nothing else used its parameters.

        Args:
            images: how many images `forward` was given.
        """
        runs = Counter(
            id(parameter) for run in self._runs for parameter in run.layer.parameters(recurse=False)
        )
        uses = _count_uses(self._logits)
        return all(uses[name] == runs[name] <= 1 for name in self._wanted) and all(
            len(run.input) == images for run in self._runs
        )

    def lengths(self, error: Float[Tensor, "n c"]) -> Float[Tensor, "n"]:
        """Return the length of the parameters' gradient for each image.

        Args:
            error: the gradient with respect to the logits of `forward`.

        Raises:
            DfalError: where the network cannot be differentiated.
        """
        with backward_errors():
            gradients = torch.autograd.grad(
                self._logits,
                [run.output for run in self._runs],
                error,
                retain_graph=True,
                allow_unused=True,
            )
        squared = torch.zeros_like(error[:, 0])
        for run, gradient in zip(self._runs, gradients, strict=True):
            if gradient is not None:
                squared += run.squared_length(gradient)
        return squared.sqrt()


def _has_closed_form(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether a module is a linear layer, or a convolution padded by numbers with zeros.

    A class of one's own that computes otherwise is none.
    """
    if not is_unchanged(module):
        return False
    if isinstance(module, nn.Conv2d):
        is_usual = (type(module).forward, type(module)._conv_forward) == (
            *(nn.Conv2d.forward, nn.Conv2d._conv_forward),
        )
        padded_plainly = not isinstance(module.padding, str) and module.padding_mode == "zeros"
        return is_usual and module.groups == 1 and padded_plainly
    return isinstance(module, nn.Linear) and type(module).forward == nn.Linear.forward


def _count_uses(f: Tensor) -> Counter[int]:
    """Return how many operations of autograd's graph take each parameter, by the parameter's id."""
    counts: Counter[int] = Counter()
    nodes: list[Any] = [f.grad_fn] if f.grad_fn is not None else []
    seen = set(nodes)
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if (variable := getattr(node, "variable", None)) is not None:
                counts[id(variable)] += 1
            elif node is not None and node not in seen:
                seen.add(node)
                nodes.append(node)
    return counts
