"""Data sets of PyTorch, torchvision and the like, and lists, of (image, label) or images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from dfal.arguments import kind_of
from dfal.data.sources.base import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    Source,
    check_image,
    column,
    without_images,
)
from dfal.errors import DfalError
from dfal.plugins import describe_exception


def recognises(data: Any) -> bool:
    """Return whether items can be taken by number, which is all that is asked."""
    return (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, str | bytes | Mapping)
        and not hasattr(data, "iloc")
    )


def open_source(data: Any) -> Source:
    """Open a data set whose items are images, (image, label, …), or dictionaries with both.

    Raises:
        DfalError: where it is empty, or its items are no images.
    """
    name = f"the {kind_of(data)}"
    if not len(data):
        raise without_images(name, "it is empty")
    labels = _labels(data)
    first = _split(_get(data, 0, name), name)

    def item(index: int) -> tuple[Any, Any]:
        image, label = first if index == 0 else _split(_get(data, index, name), name)
        return image, None if labels is not None else label

    # The user's code need not bear several threads.
    return Source(
        name,
        len(data),
        item,
        labels=labels,
        classes=tuple(map(str, getattr(data, "classes", ()) or ())),
        in_threads=False,
    )


def _get(data: Any, index: int, name: str) -> Any:
    try:
        return data[index]
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(f"{name} fails at item {index} ({describe_exception(error)})") from error


def _split(item: Any, name: str) -> tuple[Any, Any]:
    """Return the image and the label of an item, None where it has none.

    Raises:
        DfalError: for an item without an image.
    """
    label = None
    if isinstance(item, Mapping):
        image_key, label_key = column(list(item), IMAGE_COLUMNS), column(list(item), LABEL_COLUMNS)
        if image_key is None:
            raise without_images(name, f"its items have the keys {', '.join(map(str, item))}")
        image, label = item[image_key], item[label_key] if label_key else None
    elif isinstance(item, tuple | list):
        if not item:
            raise without_images(name, "its items are empty")
        image, label = item[0], item[1] if len(item) > 1 else None
    else:
        image = item
    check_image(image, name)
    if isinstance(label, Tensor | np.ndarray | np.generic):
        if label.ndim:
            raise DfalError(
                f"{name} has labels of shape {tuple(label.shape)}, but a class is needed for each"
                " image: give its number"
            )
        label = label.item()
    if label is not None and not isinstance(label, int | str):
        raise DfalError(
            f"{name} has labels of the kind {kind_of(label)}, but a class is needed for each image:"
            " give its number or name"
        )
    return image, label


def _labels(data: Any) -> list[Any] | None:
    """Return the labels that a data set has in one list, as those of torchvision do."""
    values = getattr(data, "targets", None)
    if values is None or not hasattr(values, "__len__") or len(values) != len(data):
        return None
    if getattr(data, "target_transform", None) is not None:
        return None
    values = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
    return values if all(isinstance(value, int | str) for value in values) else None
