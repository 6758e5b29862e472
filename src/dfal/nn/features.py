"""Find the last linear layer that a network runs, with its input: the features of an image."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.errors import DfalError
from dfal.nn.inference import (
    at_least_float32,
    check_finite,
    check_input,
    check_logits,
    frozen_eval,
    prepare_images,
    refuse_sigmoids,
    run,
    shape_errors,
)
from dfal.nn.passes import gathered, images_a_pass


def features(
    model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024
) -> Float[Tensor, "n d"]:
    """Return the features of images: the input of the last linear layer that the network runs.

    The network is in evaluation mode, without gradients.

    Args:
        model: any network.
        images: n images as the network takes them.
        chunk: images that are computed at a time at most; fewer where they are large.

    Raises:
        DfalError: where the network runs no `nn.Linear`.
    """
    check_input(model, images)
    passes = images.split(images_a_pass(images, chunk))
    return gathered((last_linear(model, part).features for part in passes), len(images))


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
        # The output is copied, because what comes next may work in place.
        ran[:] = [(layer, inputs[0] if inputs else named["input"], output.clone())]

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
        if x.ndim < 2 or len(x) != len(images):
            raise DfalError(
                f"the last nn.Linear was given {tuple(x.shape)} for {len(images)} images: give it"
                " one row an image"
            )
        rounding = max(torch.finfo(tensor.dtype).eps for tensor in (x, out))
        out = at_least_float32(out.flatten(1))
        last = f[:, -out.shape[1] :]
        direct = out.shape == last.shape and torch.allclose(last, out, rtol=1e-3, atol=1e-3)
        return LastLinear(layer, at_least_float32(x.flatten(1)), f, direct, rounding)


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
