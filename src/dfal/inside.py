"""How dfal looks into any network: logits, features, dropout.

Any `nn.Module` that maps images (N, …) to logits (N, C) works unchanged. One logit a row counts as two classes.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from dfal.arguments import check_network
from dfal.chain import chain
from dfal.chance import seed_for, seeded
from dfal.types import DfalError


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU where it has none."""
    check_network(model)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def ready(model: nn.Module, images: Any) -> Float[Tensor, "n *image"]:
    """The images on the network's device and in its floating-point type.

    Raises:
        DfalError: for anything but a floating-point tensor of images.
    """
    check_network(model)
    if not isinstance(images, Tensor):
        raise DfalError(f"images must be a tensor, but they are {type(images).__name__}: try torch.as_tensor(images)")
    if not images.is_floating_point():
        raise DfalError(
            f"images must be floating point as the network wants them, but they are {images.dtype}: try images.float() / 255"
        )
    floating = next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), images.dtype)
    return images.to(device_of(model), floating)


@contextlib.contextmanager
def explained(images: Tensor) -> Iterator[None]:
    """PyTorch's errors for images that do not fit a network as one sentence, which names their shape."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        shape = tuple(images.shape[1:])
        last = len(shape) == 3 and shape[2] in {1, 3} and shape[0] not in {1, 3}
        cure = ": channels come first, try images.permute(0, 3, 1, 2)" if last else ""
        raise DfalError(f"the network cannot take images of shape {shape} ({str(error).splitlines()[0]}){cure}") from error


@contextlib.contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients for the parameters; every module's mode and every flag is put back."""
    modes = {module: module.training for module in model.modules()}
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def only_dropout_on(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but with every dropout layer live: batch norm neither uses nor updates batch statistics.

    Raises:
        DfalError: where the network has no dropout layer with p > 0. `F.dropout` inside a module cannot be switched
            from outside: use `nn.Dropout`.
    """
    layers = _dropout(model)
    with looking(model):
        for layer in layers:
            layer.training = True
        yield


@contextlib.contextmanager
def one_mask(model: nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, but with one dropout mask for all images: one network ω drawn from dropout's distribution, which is
    what joint probabilities of several images need (Kirsch et al. 2019). The same seed draws the same network.

    Raises:
        DfalError: where the network has no dropout layer with p > 0, or one that does not multiply by a mask.
    """
    layers = _dropout(model)
    strange = [type(layer).__name__ for layer in layers if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout)]
    if strange:
        raise DfalError(f"{strange[0]} does not multiply by a mask, so that none can be shared: use nn.Dropout")
    masks: dict[nn.Module, Tensor] = {}

    def masked(layer: _DropoutNd, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if layer not in masks:
            ones = torch.ones_like(output[:1])
            layer.training = True
            with seeded(seed_for(seed, layers.index(layer), "mask"), output.device):
                masks[layer] = layer.forward(ones)
            layer.training = False
        return output * masks[layer]

    with looking(model):
        hooks = [layer.register_forward_hook(masked) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _dropout(model: nn.Module) -> list[_DropoutNd]:
    layers = [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]
    if not layers:
        raise DfalError("the network has no dropout layer with p > 0, so its passes would all be alike: add nn.Dropout")
    return layers


def logits(model: Callable[[Tensor], Tensor], images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
    """The network's logits in whatever mode it is. One logit f a row becomes two, (0, f), whose softmax is its sigmoid.

    Raises:
        DfalError: for an output that is no (N, C) tensor, or one of probabilities.
    """
    return as_logits(model(images), len(images))


def as_logits(out: Any, n: int) -> Float[Tensor, "n c"]:
    """What a network returned for n images as logits; raises as `logits` does."""
    if isinstance(out, Tensor) and out.shape == (n,):
        out = out.unsqueeze(1)
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != n:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        part = "out['logits']" if isinstance(out, dict) else "out[0]" if isinstance(out, tuple | list) else None
        way_out = f": wrap it in a module that returns {part}" if part else ""
        raise DfalError(f"the network must return logits of shape (N, C) for N = {n} images, but it returned {got}{way_out}")
    if out.shape[1] == 1:
        return F.pad(out, (1, 0))
    seen = out.detach()
    if len(seen) and bool((seen >= 0).all()) and bool(((seen.sum(1) - 1).abs() < 1e-5).all()):
        raise DfalError(
            "the network returns probabilities (rows ≥ 0 that sum to 1), but logits are needed: take off its softmax"
        )
    return out


@torch.no_grad()
def predict(model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024) -> Float[Tensor, "n c"]:
    """Logits in evaluation mode, without gradients, `chunk` images at a time, on the network's device."""
    one = ready(model, images[:1])
    with looking(model), explained(images):
        layers = chain(model, one if len(images) >= FOLDED else None)
        parts = images.split(chunk if layers is None else min(chunk, PART))
        return finite(torch.cat([logits(layers or model, ready(model, part)) for part in parts]))


@torch.no_grad()
def passes(model: nn.Module, images: Float[Tensor, "n *image"], times: int) -> Float[Tensor, "t n c"]:
    """Logits of several passes in whatever mode the network is."""
    layers = chain(model, images[:1])
    if layers is None:
        return torch.stack([finite(logits(model, images)) for _ in range(times)])
    before, after = layers.split()  # the same each time, and not
    found = []
    for part in images.split(PART):
        x = before(part)
        found.append(torch.stack([finite(as_logits(after(x), len(part))) for _ in range(times)]))
    return torch.cat(found, dim=1)


PART = 128
"""Images that a chain computes at a time: what it moves should fit into a processor's cache."""

FOLDED = 256
"""Images from which on it pays to make one layer of several."""


def finite(f: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """The logits themselves.

    Raises:
        DfalError: where one is NaN or infinite: such an image would be ranked at random.
    """
    good = f.isfinite().all(1)
    if not good.all():
        raise DfalError(
            f"the network returned NaN or infinite logits for {int((~good).sum())} of {len(f)} images: "
            "its training has diverged, or its input is not what it was trained on"
        )
    return f


def features(model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024) -> Float[Tensor, "n d"]:
    """The input of the last linear layer that the network runs, in evaluation mode and without gradients, `chunk` images
    at a time.

    Raises:
        DfalError: where the network runs no `nn.Linear`.
    """
    return torch.cat([ending(model, part).features for part in images.split(chunk)])


@dataclass(frozen=True)
class Ending:
    """How a network ends: the last `nn.Linear` that it runs, that layer's input, and the network's logits."""

    layer: nn.Linear
    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n c"]

    @property
    def weight(self) -> Float[Tensor, "c d"]:
        """The layer's weights, one row a logit; a row of zeros first where one logit counts as two."""
        return self._two(self.layer.weight)

    @property
    def bias(self) -> Float[Tensor, "c"]:
        """The layer's biases, zeros where it has none."""
        bias: Tensor | None = self.layer.bias
        return self._two(torch.zeros(self.layer.out_features, device=self.features.device) if bias is None else bias)

    def _two(self, rows: Tensor) -> Tensor:
        single = self.logits.shape[1] == 2 and len(rows) == 1
        return torch.cat([torch.zeros_like(rows), rows]) if single else rows


@torch.no_grad()
def ending(model: nn.Module, images: Float[Tensor, "n *image"]) -> Ending:
    """The end of the network, in evaluation mode and without gradients.

    Raises:
        DfalError: where the network runs no `nn.Linear`, and for NaN or infinite logits.
    """
    ran: list[tuple[nn.Linear, Tensor]] = []

    def remember(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        ran[:] = [(layer, inputs[0])]

    hooks = [layer.register_forward_pre_hook(remember) for layer in model.modules() if isinstance(layer, nn.Linear)]
    try:
        with looking(model), explained(images):
            f = finite(logits(model, ready(model, images)))
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise DfalError("the network runs no nn.Linear, so it has no features to give: end it with a linear layer")
    layer, x = ran[0]
    if x.ndim < 2 or len(x) != len(images):
        raise DfalError(f"the last nn.Linear was given {tuple(x.shape)} for {len(images)} images: give it one row an image")
    return Ending(layer, x.flatten(1), f)


def linear_ending(model: nn.Module, images: Float[Tensor, "n *image"]) -> Ending:
    """The end of a network whose logits are those of its last linear layer.

    Raises:
        DfalError: where something comes after that layer, beside what `ending` raises.
    """
    end = ending(model, images)
    x, weight = end.features, end.weight
    if (end.logits.shape[1], x.shape[1]) != weight.shape or not torch.allclose(
        end.logits, x @ weight.T + end.bias, rtol=1e-3, atol=1e-3
    ):
        raise DfalError("the network does not end in its last linear layer, so there is no closed form")
    return end
