"""Prepare what a network takes: its device, its type of numbers, the shape of its images."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.arguments import check_network
from dfal.errors import DfalError, first_line


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the network's parameters; the CPU where it has none."""
    check_network(model)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def prepare_images(model: nn.Module, images: Any) -> Float[Tensor, "n *image"]:
    """Move images to the network's device and into its floating-point type.

    Args:
        model: any network.
        images: n images as the network takes them.

    Raises:
        DfalError: for anything but a floating-point tensor of images.
    """
    check_input(model, images)
    prepared: Tensor = images.to(device_of(model), dtype_of(model) or images.dtype)
    return prepared


def check_input(model: Any, images: Any) -> None:
    """Check that arguments are a network and a floating-point tensor of images.

    Raises:
        DfalError: where they are not.
    """
    check_network(model)
    if not isinstance(images, Tensor):
        raise DfalError(
            f"images must be a tensor, but they are {type(images).__name__}: try"
            " torch.as_tensor(images)"
        )
    if not images.is_floating_point():
        raise DfalError(
            f"images must be floating point as the network wants them, but they are {images.dtype}:"
            " try images.float() / 255"
        )


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """Return the type of the first floating-point parameter; None where there is none."""
    return next(
        (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None
    )


def is_half(dtype: torch.dtype) -> bool:
    """Return whether a type is a floating-point type of fewer bits than float32."""
    return dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor in float32 where its own type has fewer bits, and unchanged elsewhere."""
    return x.float() if is_half(x.dtype) else x


@contextlib.contextmanager
def shape_errors(images: Tensor) -> Iterator[None]:
    """Turn the errors for images that do not fit a network into one sentence.

    PyTorch raises a RuntimeError; networks of other libraries that take one size only raise an
    AssertionError or a ValueError.

    Args:
        images: the images, whose shape the sentence names.

    Raises:
        DfalError: in place of these errors.
        OutOfMemoryError: as it is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, DfalError):
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        if any(words in str(error) for words in ("dtype", "scalar type", "Input type")):
            raise DfalError(
                "the network computes in types that do not fit each other"
                f" ({first_line(error)}): give all of it one type, as model.float() does"
            ) from error
        shape = tuple(images.shape[1:])
        last = len(shape) == 3 and shape[2] in {1, 3} and shape[0] not in {1, 3}
        cure = ": channels come first, try images.permute(0, 3, 1, 2)" if last else ""
        raise DfalError(
            f"the network cannot take images of shape {shape} ({first_line(error)}){cure}"
        ) from error


def copy_for(model: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return a copy of the images in the network's type, which it may change in place."""
    dtype = dtype_of(model) if isinstance(model, nn.Module) and images.is_floating_point() else None
    return images.to(dtype or images.dtype, copy=True)
