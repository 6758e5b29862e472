"""Backbones of torchvision, as torchvision:NAME."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe
from dfal.backbones.pretrained import Normalised, imported, loading, pretrained_backbone, rebuilt
from dfal.errors import DfalError, unknown_name

INSTALL = "pip install torchvision"


def load(argument: str, image: Image | None) -> Backbone:
    """Load a network of torchvision without its last layer, with its best weights.

    Args:
        argument: its name in torchvision, as `resnet18` or `vit_b_16`.
        image: what it is to take; None for its own.

    Raises:
        DfalError: where torchvision is missing, does not have it, or its weights cannot be
            downloaded.
    """
    name = f"torchvision:{argument}"
    network = _made(argument)
    models = imported("torchvision", name, INSTALL).models
    weights = models.get_model_weights(argument).DEFAULT
    transforms = weights.transforms()
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not file.is_file():
        size = weights.meta.get("_file_size", 0)
        print(
            f"dfal: downloading {weights.url} ({size:,.0f} MB, once) to {file.parent}",
            file=sys.stderr,
        )
    cure = (
        f"download {weights.url} on a machine that has a connection into {file.parent}, or use"
        " lite0, which needs no download"
    )
    with loading(name, cure):
        state = weights.get_state_dict(
            progress=True, check_hash=True, map_location="cpu", weights_only=True
        )
        network.load_state_dict(state)
    side = transforms.crop_size[0]
    body = Normalised(_without_last(network, name), transforms.mean, transforms.std, {})
    return pretrained_backbone(
        name, body, image or (3, side, side), f"weights {weights.name} of torchvision"
    )


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Make a network of torchvision with given weights.

    Raises:
        DfalError: where torchvision is missing or does not have it.
        RuntimeError: for weights that do not fit.
    """
    network = _without_last(_made(argument), f"torchvision:{argument}")
    return rebuilt(network, recipe, weights)


def _made(argument: str) -> nn.Module:
    """Return a network for classification with random weights."""
    name = f"torchvision:{argument}"
    models = imported("torchvision", name, INSTALL).models
    known = models.list_models(module=models)
    if argument not in known:
        raise unknown_name("network of torchvision", argument, known)
    with loading(name, "choose another"):
        network: nn.Module = models.get_model(argument, weights=None)
    if hasattr(network, "transform_input"):  # Inception's weights are of another normalisation
        setattr(network, "transform_input", True)  # noqa: B010  its hint is of a module
    return network


def _without_last(network: nn.Module, name: str) -> nn.Module:
    """Return the network itself, whose last linear layer is replaced by nothing.

    Raises:
        DfalError: where it has none.
    """
    layers = [key for key, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise DfalError(f"the backbone {name} ends in no linear layer: choose another")
    parent, _, last = layers[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network
