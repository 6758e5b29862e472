"""Run a network with dropout on: an independent mask for each image, or one mask for all."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dfal.errors import DfalError
from dfal.nn.evaluation import frozen_eval
from dfal.nn.fast_sequential import fast_sequential
from dfal.nn.inference import FORWARD_BATCH, check_finite, check_logits, logits
from dfal.nn.network_input import prepare_images
from dfal.seeding import derive_seed, fork_rng


@contextlib.contextmanager
def only_dropout_on(
    model: nn.Module, example: Float[Tensor, "n *image"] | None = None
) -> Iterator[nn.Module]:
    """Put a network into evaluation mode, but every dropout layer into training mode.

    Batch norm neither uses nor updates batch statistics. Yields what `frozen_eval` yields.

    Args:
        model: any network with dropout.
        example: as `frozen_eval` takes it.

    Raises:
        DfalError: where the network has no dropout layer with p > 0. `F.dropout` inside a module
            cannot be switched from outside: use `nn.Dropout`.
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
    """Put a network into evaluation mode, but with one dropout mask for all images.

    That is one network ω drawn from dropout's distribution, which joint probabilities of several
    images need. Yields what `frozen_eval` yields.

    Args:
        model: any network with dropout.
        seed: the same seed draws the same mask.
        example: as `frozen_eval` takes it.

    Raises:
        DfalError: where the network has no dropout layer with p > 0, or one that does not multiply
            by a mask.

    Source:
        Kirsch, van Amersfoort & Gal: BatchBALD. NeurIPS 2019.
    """
    maskless = [
        layer
        for layer in _dropout_layers(model)
        if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout)
    ]
    if maskless:
        raise DfalError(
            f"{type(maskless[0]).__name__} does not multiply by a mask, so that none can be shared:"
            " use nn.Dropout"
        )
    masks: dict[tuple[nn.Module, torch.Size], Tensor] = {}  # a layer may run on several shapes

    def masked(layer: _DropoutNd, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        key = layer, output.shape[1:]
        if key not in masks:
            ones = torch.ones_like(output[:1])
            layer.training = True
            with fork_rng(derive_seed(seed, layers.index(layer), "mask"), output.device):
                masks[key] = layer.forward(ones)
            layer.training = False
        return output * masks[key]

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
    """Return the logits of several forward passes in whatever mode the network is.

    Args:
        model: a network with dropout on.
        images: n images.
        times: t, the number of passes.

    Raises:
        DfalError: for NaN or infinite logits.
    """
    images = prepare_images(model, images)
    layers = fast_sequential(model, images[:1])
    if layers is None:
        return torch.stack([check_finite(logits(model, images)) for _ in range(times)])
    deterministic, random = layers.split()
    batches = []
    for batch in images.split(FORWARD_BATCH):
        x = deterministic(batch)
        passes = [check_finite(check_logits(random(x), len(batch))) for _ in range(times)]
        batches.append(torch.stack(passes))
    return torch.cat(batches, dim=1)
