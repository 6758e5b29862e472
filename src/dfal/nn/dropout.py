"""Run a network with live dropout: an independent mask an image, or one mask for all."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dfal.errors import DfalError
from dfal.nn.fast_sequential import fast_sequential
from dfal.nn.inference import (
    FORWARD_BATCH,
    check_finite,
    check_logits,
    frozen_eval,
    logits,
    prepare_images,
)
from dfal.seeding import derive_seed, fork_rng


@contextlib.contextmanager
def only_dropout_on(
    model: nn.Module, example: Float[Tensor, "n *image"] | None = None
) -> Iterator[nn.Module]:
    """Evaluation mode, but with every dropout layer live: batch norm neither uses nor updates batch
    statistics.

    Yields what `looking` yields, for the same arguments.

    Raises:
        DfalError: where the network has no dropout layer with p > 0. `F.dropout` inside a module
        cannot be switched
            from outside: use `nn.Dropout`.
    """
    _dropout_layers(model)
    with frozen_eval(model, example) as network:
        for layer in _dropout_layers(network):
            layer.training = True
        yield network


@contextlib.contextmanager
def shared_dropout_mask(
    model: nn.Module, seed: int, example: Float[Tensor, "n *image"] | None = None
) -> Iterator[nn.Module]:
    """Evaluation mode, but with one dropout mask for all images: one network ω drawn from dropout's
    distribution, which is what joint probabilities of several images need (Kirsch et al. 2019). The
    same seed draws the same network.

    Yields what `looking` yields, for the same arguments.

    Raises:
        DfalError: where the network has no dropout layer with p > 0, or one that does not multiply
        by a mask.
    """
    strange = [
        one
        for one in _dropout_layers(model)
        if isinstance(one, nn.AlphaDropout | nn.FeatureAlphaDropout)
    ]
    if strange:
        raise DfalError(
            f"{type(strange[0]).__name__} does not multiply by a mask, so that none can be shared:"
            " use nn.Dropout"
        )
    masks: dict[nn.Module, Tensor] = {}

    def masked(layer: _DropoutNd, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if layer not in masks:
            ones = torch.ones_like(output[:1])
            layer.training = True
            with fork_rng(derive_seed(seed, layers.index(layer), "mask"), output.device):
                masks[layer] = layer.forward(ones)
            layer.training = False
        return output * masks[layer]

    with frozen_eval(model, example) as network:
        layers = _dropout_layers(network)
        hooks = [layer.register_forward_hook(masked) for layer in layers]
        try:
            yield network
        finally:
            for hook in hooks:
                hook.remove()


def _dropout_layers(model: nn.Module) -> list[_DropoutNd]:
    layers = [
        module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0
    ]
    if not layers:
        raise DfalError(
            "the network has no dropout layer with p > 0, so its passes would all be alike: add"
            " nn.Dropout"
        )
    return layers


@torch.no_grad()
def stochastic_forward(
    model: nn.Module, images: Float[Tensor, "n *image"], times: int
) -> Float[Tensor, "t n c"]:
    """Logits of several passes in whatever mode the network is."""
    images = prepare_images(model, images)
    layers = fast_sequential(model, images[:1])
    if layers is None:
        return torch.stack([check_finite(logits(model, images)) for _ in range(times)])
    before, after = layers.split()  # the same each time, and not
    found = []
    for part in images.split(FORWARD_BATCH):
        x = before(part)
        found.append(
            torch.stack([check_finite(check_logits(after(x), len(part))) for _ in range(times)])
        )
    return torch.cat(found, dim=1)
