"""The features of an image: where a network says, or else before its last linear layer."""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.evaluation import frozen_eval, unwrap_network
from dfal.nn.inference import check_finite, check_logits, refuse_sigmoids, run
from dfal.nn.network_input import at_least_float32, check_input, prepare_images, shape_errors
from dfal.nn.passes import gathered, images_a_pass


def features(
    model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024
) -> Float[Tensor, "n d"]:
    """Return the features of images: the input of the module that `features_before` names.

    That is an attribute of the network. Without it they are the input of the last linear layer that
    the network runs. The network is in evaluation mode, without gradients.

    Args:
        model: any network.
        images: n images as the network takes them.
        chunk: images that are computed at a time at most; fewer where they are large.

    Raises:
        DfalError: where the network does not run that module, or no `nn.Linear`.
    """
    check_input(model, images)
    name = head_name(model)
    if not name:
        return last_layer_inputs(model, images, chunk)
    passes = images.split(images_a_pass(images, chunk))
    return gathered((_input_of(model, name, part) for part in passes), len(images))


def last_layer_inputs(
    model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024
) -> Float[Tensor, "n d"]:
    """Return the input of the last linear layer that the network runs, whatever it names.

    Args:
        model: any network, which is in evaluation mode, without gradients.
        images: n images as the network takes them.
        chunk: images that are computed at a time at most; fewer where they are large.

    Raises:
        DfalError: where the network runs no `nn.Linear`.
    """
    check_input(model, images)
    passes = images.split(images_a_pass(images, chunk))
    return gathered((last_linear(model, part).features for part in passes), len(images))


def head_name(model: nn.Module) -> str:
    """Return the name of the module whose input the network's features are; "" for none.

    Raises:
        DfalError: where `features_before` is not the name of one of its modules.
    """
    network = unwrap_network(model)
    name: Any = getattr(network, "features_before", "")
    names = [known for known, _ in network.named_modules() if known]
    if name and name not in names:
        raise DfalError(
            f"features_before = {name!r} of the network is none of its modules: give one of"
            f" {', '.join(names)}"
        )
    return str(name or "")


def features_module(model: nn.Module, images: Float[Tensor, "n *image"]) -> nn.Module:
    """Return the module whose input the features are.

    Args:
        model: any network.
        images: a few images as the network takes them.

    Raises:
        DfalError: as `features` does.
    """
    if name := head_name(model):
        return unwrap_network(model).get_submodule(name)
    return last_linear(model, images).layer


@torch.no_grad()
def _input_of(
    model: nn.Module, name: str, images: Float[Tensor, "n *image"]
) -> Float[Tensor, "n d"]:
    """Return what a module is given when it runs for the last time, one row an image.

    Raises:
        DfalError: where it does not run, or is given no row for each image.
    """
    given: list[Any] = []

    def remember(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = next(iter((*inputs, *named.values())), None)
        if given and not _has_rows(first, len(images)):  # an ensemble looks at single images again
            return
        # It is copied, because the module may work in place.
        given[:] = [first.clone() if isinstance(first, Tensor) else first]

    with frozen_eval(model, images[:1]) as network, shape_errors(images):
        hook = network.get_submodule(name).register_forward_pre_hook(remember, with_kwargs=True)
        try:
            check_finite(check_logits(run(network, prepare_images(network, images)), len(images)))
        finally:
            hook.remove()
    x = given[0] if given else None
    if isinstance(x, Tensor) and len(images) == 1:
        x = _row_of_one(x)
    if _has_rows(x, len(images)):
        return at_least_float32(x.flatten(1))
    found = "is given no row for each image" if given else "does not run"
    raise DfalError(
        f"the module {name}, which features_before of the network names, {found}: name the one that"
        " takes the features"
    )


@dataclass(frozen=True)
class LastLinear:
    """How a network ends.

    Attributes:
        layer: the last `nn.Linear` that it runs.
        features: that layer's input, one row an image.
        logits: of the network.
        direct: whether the logits are that layer's output.
        rounding: machine epsilon of the coarsest type of that layer's input and output.
    """

    layer: nn.Linear
    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n c"]
    direct: bool
    rounding: float

    @property
    def weight(self) -> Float[Tensor, "c d"]:
        """Return the layer's weights, one row a logit.

        Where one logit counts as two, a row of zeros comes first.
        """
        return self._two(self.layer.weight.to(self.features.dtype))

    @property
    def bias(self) -> Float[Tensor, "c"]:
        """Return the layer's biases, zeros where it has none."""
        bias: Tensor | None = self.layer.bias
        none = torch.zeros(
            self.layer.out_features, dtype=self.features.dtype, device=self.features.device
        )
        return self._two(none if bias is None else bias.to(self.features.dtype))

    def _two(self, rows: Tensor) -> Tensor:
        single = self.logits.shape[1] == 2 and len(rows) == 1
        return torch.cat([torch.zeros_like(rows), rows]) if single else rows


@torch.no_grad()
def last_linear(model: nn.Module, images: Float[Tensor, "n *image"]) -> LastLinear:
    """Find the last linear layer that the network runs, in evaluation mode and without gradients.

    Args:
        model: any network.
        images: n images as the network takes them.

    Raises:
        DfalError: where the network runs no `nn.Linear`, and for NaN or infinite logits.
    """
    check_input(model, images)
    ran: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def remember(
        layer: nn.Linear, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        x = inputs[0] if inputs else named["input"]
        if ran and not _has_rows(x, len(images)):  # an ensemble looks at single images again
            return
        # The output is copied, because what comes next may work in place.
        ran[:] = [(layer, x, output.clone())]

    with frozen_eval(model, images[:1]) as network, shape_errors(images):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        hooks = [layer.register_forward_hook(remember, with_kwargs=True) for layer in layers]
        try:
            f = check_finite(
                check_logits(run(network, prepare_images(network, images)), len(images))
            )
        finally:
            for hook in hooks:
                hook.remove()
        refuse_sigmoids(network, images, f)
        if not ran:
            raise DfalError(
                "the network runs no nn.Linear, so it has no features to give: end it with a linear"
                " layer"
            )
        layer, x, out = ran[0]
        if len(images) == 1:
            x, out = _row_of_one(x), _row_of_one(out)
        if not _has_rows(x, len(images)):
            raise DfalError(
                f"the last nn.Linear was given {tuple(x.shape)} for {len(images)} images: give it"
                " one row an image"
            )
        rounding = max(torch.finfo(tensor.dtype).eps for tensor in (x, out))
        out = at_least_float32(out.flatten(1))
        last = f[:, -out.shape[1] :]
        direct = out.shape == last.shape and torch.allclose(last, out, rtol=1e-3, atol=1e-3)
        return LastLinear(layer, at_least_float32(x.flatten(1)), f, direct, rounding)


def _has_rows(x: Any, count: int) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.ndim >= 2 and len(x) == count


def _row_of_one(x: Tensor) -> Tensor:
    """Return the row of one image, which was squeezed or given to the network twice."""
    if x.ndim == 1:
        return x.unsqueeze(0)
    return x[:1] if len(x) == 2 else x


def trained_head(model: nn.Module, images: Float[Tensor, "n *image"]) -> nn.Linear | None:
    """Return the last linear layer, where all the rest of the network is frozen.

    It is None where anything else is trained, nothing is frozen, or something comes after it.

    Args:
        model: any network.
        images: n images as the network takes them.
    """
    parameters = list(model.parameters())
    free = {parameter for parameter in parameters if parameter.requires_grad}
    if len(free) == len(parameters):
        return None
    try:
        layer = affine_last_linear(model, images).layer
    except DfalError:
        return None
    return layer if type(layer) is nn.Linear and free <= set(layer.parameters()) else None


def affine_last_linear(model: nn.Module, images: Float[Tensor, "n *image"]) -> LastLinear:
    """Find the last linear layer of a network whose logits are the output of that layer.

    Args:
        model: any network.
        images: n images as the network takes them.

    Raises:
        DfalError: where something comes after that layer, and as `last_linear` does.
    """
    end = last_linear(model, images)
    x, weight = end.features, end.weight
    fits = end.direct and (end.logits.shape[1], x.shape[1]) == weight.shape
    if fits:
        closed = x @ weight.T + end.bias
        allowed = 1e-3 + 1e-3 * closed.abs()
        if end.rounding > torch.finfo(torch.float32).eps:
            allowed = allowed + end.rounding * (x.abs() @ weight.abs().T + end.bias.abs())
        fits = bool(((end.logits - closed).abs() <= allowed).all())
    if not fits:
        raise DfalError(
            "the network does not end in its last linear layer, so there is no closed form"
        )
    return end
