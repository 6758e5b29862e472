"""Backbones of timm, as timm:NAME."""

from typing import Any

from torch import Tensor, nn

from dfal.backbones import hub
from dfal.backbones.base import Backbone, Image, Recipe
from dfal.backbones.pretrained import (
    Normalised,
    imported,
    loading,
    pretrained_backbone,
    rebuilt,
    three,
)
from dfal.errors import DfalError, unknown_name

INSTALL = "pip install timm"
WEIGHTS = "model.safetensors"


def load(argument: str, image: Image | None) -> Backbone:
    """Load a network of timm without its last layer, with its input size and normalisation.

    Args:
        argument: its name in timm, as `resnet18` or `vit_tiny_patch16_224.augreg_in21k`.
        image: what it is to take; None for its own.

    Raises:
        DfalError: where timm is missing, does not have it, or has no safetensors of it.
    """
    name = f"timm:{argument}"
    timm = imported("timm", name, INSTALL)
    if not timm.is_model(argument):
        raise unknown_name("network of timm", argument, timm.list_models())
    card = timm.get_pretrained_cfg(argument)
    repository = getattr(card, "hf_hub_id", None)
    if not repository:
        raise DfalError(f"the backbone {name} has no pretrained weights on the hub: choose another")
    folder = hub.fetch(name, repository, lambda file: file == WEIGHTS, WEIGHTS)
    file = {"file": str(folder / WEIGHTS), "custom_load": False}
    with loading(name, "update timm, or choose another"):
        network = _made(timm, argument, image, pretrained=True, pretrained_cfg_overlay=file)
        config = timm.data.resolve_model_data_config(network)
        mean, std = three(config.get("mean"), (0.0,)), three(config.get("std"), (1.0,))
    own: Image = tuple(config["input_size"])
    about = f"weights of {repository}"
    recipe = {"size": bool(image)}
    return pretrained_backbone(name, Normalised(network, mean, std, recipe), image or own, about)


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Make a network of timm with given weights.

    Raises:
        DfalError: where timm is missing or cannot make it.
        RuntimeError: for weights that do not fit.
    """
    name = f"timm:{argument}"
    timm = imported("timm", name, INSTALL)
    if not timm.is_model(argument):
        raise unknown_name("network of timm", argument, timm.list_models())
    with loading(name, "install the version of timm that the model was made with"):
        network = _made(timm, argument, image if recipe.get("size") else None, pretrained=False)
    return rebuilt(network, recipe, weights)


def _made(timm: Any, argument: str, image: Image | None, **settings: Any) -> nn.Module:
    """Return a network of timm without its last layer.

    Transformers are told the size of the images; convolutional networks take any, and know no such
    setting.
    """
    size = {} if image is None else {"in_chans": image[0], "img_size": image[1:]}
    try:
        network: nn.Module = timm.create_model(argument, num_classes=0, **settings, **size)
    except TypeError:
        size.pop("img_size", None)
        network = timm.create_model(argument, num_classes=0, **settings, **size)
    return network
