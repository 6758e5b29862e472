"""Backbones of Hugging Face's transformers, as hf:NAME of the hub or hf:FOLDER."""

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
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
from dfal.errors import DfalError

INSTALL = "pip install transformers"
WEIGHTS = ".safetensors"
CONFIGS = ("config.json", "preprocessor_config.json", "model.safetensors.index.json")
LEFT_OUT = (
    *("id2label", "label2id", "task_specific_params"),  # of the layer that is taken off
    *("auto_map", "attn_implementation", "quantization_config"),  # may name code
    *("torch_dtype", "dtype", "transformers_version"),
)
"""Settings of a configuration that a saved model does not carry, nor any that begins with _."""


class HuggingFaceFeatures(nn.Module):
    """Features of a model of transformers: its pooled output, or the mean over its last layer.

    Of a model of pictures and texts, as CLIP, the part for pictures is kept.

    Args:
        model: what `AutoModel` makes.
        interpolate: whether its position embeddings are interpolated to the size of the images.
    """

    def __init__(self, model: nn.Module, interpolate: bool):
        super().__init__()
        self.model = model
        self.is_pair = hasattr(model, "get_image_features")
        if self.is_pair and hasattr(model, "text_model"):
            del model.text_model
        self.settings = {"interpolate_pos_encoding": True} if interpolate else {}

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of normalised images."""
        run: Any = self.model.get_image_features if self.is_pair else self.model
        out = run(pixel_values=images, **self.settings)
        if isinstance(out, Tensor):
            return out
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        last: Tensor = out.last_hidden_state
        return last.mean(1) if last.ndim == 3 else last.mean((2, 3))


def load(argument: str, image: Image | None) -> Backbone:
    """Load a model of transformers from the hub or from a folder; only safetensors, no code.

    Args:
        argument: its name on the hub, as `facebook/dinov2-small`, or a folder with `config.json`
            and `model.safetensors`.
        image: what it is to take; None for its own.

    Raises:
        DfalError: where transformers is missing, the hub cannot be reached, or the model is of no
            kind that takes images.
    """
    name = f"hf:{argument}"
    transformers = imported("transformers", name, INSTALL)
    folder = Path(argument)
    if not folder.is_dir():
        if argument.startswith((".", "/", "~")) or argument.count("/") > 1:
            raise DfalError(
                f"there is no folder {argument}: name a folder with a model, or one of the hub"
            )
        folder = hub.fetch(name, argument, _is_wanted, WEIGHTS)
    if not any(folder.glob(f"*{WEIGHTS}")):
        raise DfalError(
            f"{folder} has no *{WEIGHTS} file, and other formats may run code: save the model with"
            " save_pretrained"
        )
    with loading(name, "it must be a model of images that transformers has itself"):
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        recipe: dict[str, Any] = {"config": portable(config.to_dict())}
        model = transformers.AutoModel.from_pretrained(
            folder,
            config=configuration(transformers, recipe["config"]),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        ).float()
        own, mean, std = _processing(folder, config)
        size = image or own
        interpolate = size[1:] != own[1:] and _can_interpolate(model)
    recipe["interpolate"] = interpolate
    features = HuggingFaceFeatures(model, interpolate)
    about = f"{config.model_type}, weights of {argument}"
    return pretrained_backbone(name, Normalised(features, mean, std, recipe), size, about)


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Make a model of transformers with given weights, from the configuration in the recipe.

    Raises:
        DfalError: where transformers is missing, or does not know the configuration.
        RuntimeError: for weights that do not fit.
    """
    name = f"hf:{argument}"
    transformers = imported("transformers", name, INSTALL)
    with loading(name, "install the version of transformers that the model was made with"):
        config = configuration(transformers, portable(recipe["config"]))
        with torch.device("meta"):  # a damaged card cannot ask for a giant one
            shapes = _features(transformers, config, recipe).state_dict()
    if {f"network.{key}": tensor.shape for key, tensor in shapes.items()} != {
        key: tensor.shape for key, tensor in weights.items() if key.startswith("network.")
    }:
        raise RuntimeError("they are those of another configuration")
    return rebuilt(_features(transformers, config, recipe), recipe, weights)


def portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a configuration that a saved model carries.

    Nothing that could name code or a file elsewhere is among them.

    Raises:
        DfalError: for a configuration that asks for another package's network.
    """
    if settings.get("use_timm_backbone") or settings.get("backbone"):
        raise DfalError("models that contain the network of another package cannot be used")
    return {
        key: portable(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if not key.startswith("_") and key not in LEFT_OUT
    }


def configuration(transformers: Any, settings: dict[str, Any]) -> Any:
    """Return the configuration of transformers with these settings."""
    rest = {key: value for key, value in settings.items() if key != "model_type"}
    return transformers.AutoConfig.for_model(settings["model_type"], **rest)


def _features(transformers: Any, config: Any, recipe: Recipe) -> HuggingFaceFeatures:
    model = transformers.AutoModel.from_config(config, trust_remote_code=False)
    return HuggingFaceFeatures(model.float(), bool(recipe.get("interpolate")))


def _is_wanted(file: str) -> bool:
    return file in CONFIGS or (file.startswith("model") and file.endswith(WEIGHTS))


def _can_interpolate(model: nn.Module) -> bool:
    run: Any = getattr(model, "get_image_features", model.forward)
    return "interpolate_pos_encoding" in inspect.signature(run).parameters


def _processing(folder: Path, config: Any) -> tuple[Image, list[float], list[float]]:
    """Return the image that a model takes, and mean and std of its pixels in [0, 1].

    They are read from the image processor's file: its classes need torchvision.
    """
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    vision = getattr(config, "vision_config", config)
    side: Any = settings.get("crop_size") or settings.get("size")
    side = side or getattr(vision, "image_size", None) or 224
    if isinstance(side, dict):
        side = (
            (side["height"], side["width"])
            if "height" in side
            else next(iter(side.values()))  # of the shortest side
        )
    height, width = (side, side) if isinstance(side, int) else side
    channels = getattr(vision, "num_channels", 3)
    scale = (
        255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
    )
    normalises = settings.get("do_normalize", True)
    mean = three(settings.get("image_mean") if normalises else None, (0.0,))
    std = three(settings.get("image_std") if normalises else None, (1.0,))
    return (channels, height, width), [m / scale for m in mean], [s / scale for s in std]
