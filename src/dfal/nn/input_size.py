"""Find the size of the images that a network was made for, where it says so."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from dfal.nn.evaluation import unwrap_network


def image_of(model: nn.Module, image: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of the images that a network was made for.

    The first of its modules that says so, from the outside inwards, decides: by an attribute
    `input_size` of (height, width) or (channels, height, width), by the `pretrained_cfg` or
    `default_cfg` of timm, by the `image_size` and `num_channels` of a `config` as Hugging Face has
    them, or by an attribute `image_size`, as torchvision's vision transformers have.

    Args:
        model: any network.
        image: channels, height and width where it does not say them.
    """
    for module in unwrap_network(model).modules():
        for sides in _sizes(module):
            numbers = _whole_numbers(sides)
            if len(numbers) in {2, 3}:
                c, h, w = (*image[:1], *numbers)[-3:]
                return c, h, w
    return image


def _sizes(module: nn.Module) -> Iterator[Any]:
    """Yield what a module says in each of the ways, None where it says nothing."""
    # A whole number may be the number of features of an input, so that it is no side here.
    size = getattr(module, "input_size", None)
    yield None if isinstance(size, int) else size
    for name in ("pretrained_cfg", "default_cfg"):
        settings = getattr(module, name, None)
        yield settings.get("input_size") if isinstance(settings, Mapping) else None
    config = getattr(module, "config", None)
    channels, sides = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    both = _whole_numbers(sides)
    yield (channels, *both) if channels and len(both) == 2 else both
    yield getattr(module, "image_size", None)


def _whole_numbers(sides: Any) -> tuple[int, ...]:
    """Return positive whole numbers; one for both sides counts twice; () for anything else."""
    if isinstance(sides, int):
        sides = (sides, sides)
    if not isinstance(sides, Sequence) or not all(
        isinstance(side, int) and side > 0 for side in sides
    ):
        return ()
    return tuple(sides)
