"""Augmentations by their name, and what functions of the user's make of themselves."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dfal.errors import DfalError, unknown_name
from dfal.nn import AUGMENTATIONS
from dfal.nn.augmentation import Augmentation, shifted
from dfal.plugins import describe_exception, load_object
from dfal.seeding import fork_rng


def load_augmentation(name: str) -> Augmentation:
    """Return the augmentation of a name.

    Args:
        name: one of `AUGMENTATIONS`, or `package.module:function`: called as function(images, rng),
            or as function(image), such as a transform of torchvision, on one image after another.
            Its weak look is a small shift, unless it has an attribute `weak`.

    Raises:
        DfalError: for a name that is not there, and what cannot be called so.
    """
    if ":" not in name:
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, [*AUGMENTATIONS, "package.module:function"])
        return AUGMENTATIONS[name]
    return custom(load_object("augmentation", name), f"the augmentation {name}")


def custom(function: Any, what: str = "the augmentation") -> Augmentation:
    """Return the augmentation that a function of the user's makes.

    Args:
        function: called as function(images, rng), or as function(image) on one image after another.
        what: what it is called in a sentence.

    Raises:
        DfalError: for what cannot be called so; when it is used, where it fails or returns images
            of another kind.
    """
    if isinstance(function, Augmentation):
        return function
    if isinstance(function, type) or not callable(function):
        raise DfalError(f"{what} must be a function (images, rng) that returns as many images")
    takes_rng = _takes_two(function)

    def strong(images: Tensor, rng: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=rng))
        try:
            with fork_rng(seed, images.device):
                if takes_rng:
                    changed = function(images.clone(), rng)
                else:
                    changed = torch.stack([function(image) for image in images.clone()])
        except Exception as error:  # it is the user's code, which may raise anything
            raise DfalError(f"{what} fails ({describe_exception(error)})") from error
        if not isinstance(changed, Tensor) or changed.shape != images.shape:
            got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise DfalError(
                f"{what} returned {got} for images of shape {tuple(images.shape)}: return as many"
                " of that shape"
            )
        return changed.to(images.device, images.dtype)

    weak = getattr(function, "weak", None)
    return Augmentation(strong, weak if callable(weak) else shifted)


def _takes_two(function: Callable[..., Any]) -> bool:
    """Return whether a function must be called with two arguments."""
    with contextlib.suppress(TypeError, ValueError):
        needed = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
            and parameter.default is parameter.empty
        ]
        return len(needed) == 2
    return False
