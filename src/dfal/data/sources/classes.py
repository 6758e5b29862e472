"""Classes from labels: numbers, or names."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from dfal.arguments import kind_of
from dfal.errors import DfalError


def numbered(
    labels: Sequence[Any], names: tuple[str, ...], source: str
) -> tuple[Int64[Tensor, "n"], tuple[str, ...]]:
    """Return labels as classes 0, 1, …, and the names of the classes.

    Numbers stay as they are, also where they are written as text; names are sorted.

    Args:
        labels: of all images.
        names: of labels that are numbers; empty where they have none.
        source: what they come from, for sentences.

    Raises:
        DfalError: for an image without a label, and numbers that are no classes.
    """
    missing = next((i for i, label in enumerate(labels) if label is None or label == ""), None)
    if missing is not None:
        raise DfalError(f"image {missing} of {source} has no label: leave it out, or label it")
    if all(isinstance(label, str) for label in labels):
        if not all(label.isdecimal() for label in labels):
            found = sorted(set(labels))
            index = {name: place for place, name in enumerate(found)}
            return torch.tensor([index[label] for label in labels]), tuple(found)
        labels = [int(label) for label in labels]
    try:
        numbers = [operator.index(label) for label in labels]
    except TypeError:
        odd = next(label for label in labels if not hasattr(label, "__index__"))
        raise DfalError(
            f"{source} has labels of the kind {kind_of(odd)}: give the number or the name of a"
            " class for each image"
        ) from None
    count = max(numbers) + 1
    if min(numbers) < 0:
        raise DfalError(
            f"{source} has the label {min(numbers)}: number the classes from 0, and leave out"
            " images without a label"
        )
    if count > len(names) and (names or count > len(labels)):
        raise DfalError(
            f"{source} has the label {count - 1} but {len(names) or len(labels)}"
            f" {'classes' if names else 'images'}: number the classes from 0"
        )
    return torch.tensor(numbers), names or tuple(map(str, range(count)))
