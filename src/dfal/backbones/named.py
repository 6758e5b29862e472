"""Load a backbone by its name, and rebuild the network of one that was saved with a model."""

from torch import Tensor, nn

from dfal.backbones import custom
from dfal.backbones.base import Backbone, Image, Recipe, Source
from dfal.backbones.registry import BACKBONES, WITH_PIXELS
from dfal.backbones.with_pixels import rebuilt, with_pixels
from dfal.errors import DfalError, unknown_name

PARAMETRIC = {
    "timm": "timm:resnet18",
    "hf": "hf:facebook/dinov2-small",
    "torchvision": "torchvision:resnet18",
    "onnx": "onnx:features.onnx",
}
"""Sources of many backbones, each with an example."""


def load(name: str, image: Image | None = None) -> Backbone:
    """Load a backbone.

    Args:
        name: one of `BACKBONES`, with an argument behind a colon where it is a source of many
            (`timm:resnet18`), or `package.module:function` of your own. `+pixels` behind it adds
            the pixels to its features.
        image: channels, height and width to use it with; by default its own.

    Raises:
        DfalError: for a name that is not there, and where it cannot be loaded.
    """
    if name.endswith(WITH_PIXELS):
        return with_pixels(load(name.removesuffix(WITH_PIXELS), image))
    source, argument = _source(name)
    return source.load(argument, image)


def rebuild(
    name: str,
    image: Image,
    recipe: Recipe,
    weights: dict[str, Tensor],
) -> nn.Module:
    """Make the network of a backbone for a saved model, without any download.

    Args:
        name: of the backbone, as `load` takes it.
        image: channels, height and width in pixels that it takes.
        recipe: of the network that was saved (`FeatureClassifier.recipe`).
        weights: its state.

    Raises:
        DfalError: for a name that is not there, and where a package is missing.
        RuntimeError: for weights that do not fit.
    """
    if name.endswith(WITH_PIXELS):
        alone = name.removesuffix(WITH_PIXELS)
        return rebuilt(image, weights, lambda own: rebuild(alone, image, recipe, own))
    source, argument = _source(name)
    return source.rebuild(argument, image, recipe, weights)


def _source(name: str) -> tuple[Source, str]:
    """Return the source of a backbone, and which of its backbones it is."""
    source, _, argument = name.partition(":")
    if source in BACKBONES:
        if bool(argument) != (source in PARAMETRIC):
            example = PARAMETRIC.get(source)
            raise DfalError(
                f"the backbone {source} takes no argument: say {source}"
                if example is None
                else f"the backbone {source} needs a name: say {source}:NAME, as {example}"
            )
        return BACKBONES[source], argument
    if not argument:
        raise unknown_name("backbone", name, [*BACKBONES, "package.module:function"])
    return custom, name
