"""Check what `fit` is given."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dfal.arguments import kind_of
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.nn.training_settings import AUTO, Training
from dfal.pool import LabelledData


def checked(make: Any, data: Any, settings: Any, unlabelled: Any) -> LabelledData:
    """Return the labelled data with labels as int64.

    Raises:
        DfalError: for arguments that `fit` does not take.
    """
    if isinstance(make, nn.Module) or not callable(make):
        cure = "lambda: copy.deepcopy(network)" if isinstance(make, nn.Module) else "dfal.lenet5"
        raise DfalError(
            f"make must be a function that returns a new network, but it is {kind_of(make)}: give"
            f" {cure}"
        )
    if not isinstance(settings, Training):
        raise DfalError(
            f"the settings must be a dfal.Training, but they are {kind_of(settings)}: give"
            " dfal.Training()"
        )
    if not isinstance(data, LabelledData):
        cure = (
            "pool.labelled_data()"
            if hasattr(data, "labelled_data")
            else "dfal.LabelledData(images, labels, source)"
        )
        raise DfalError(
            f"the data must be a dfal.LabelledData, but they are {kind_of(data)}: give {cure}"
        )
    if settings.unlabelled == "spreading":
        raise DfalError(
            "unlabelled = 'spreading' needs a graph of features: give it to a dfal.Trial with a"
            " backbone"
        )
    if settings.learns_consistency and not isinstance(unlabelled, Images):
        raise DfalError(
            f"unlabelled = {settings.unlabelled!r} needs the images of the pool: give fit"
            " unlabelled=pool.images"
        )
    tensors = {"images": data.images, "labels": data.labels, "source": data.source}
    for name, tensor in tensors.items():
        if not torch.is_tensor(tensor):
            raise DfalError(
                f"{name} must be a tensor, but they are {kind_of(tensor)}: try"
                f" torch.as_tensor({name})"
            )
    if data.labels.is_floating_point() or data.labels.is_complex():
        raise DfalError(
            f"labels must be whole numbers, but they are {data.labels.dtype}: try labels.long()"
        )
    if data.labels.ndim != 1 or len({len(tensor) for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise DfalError(
            "images, labels and source must have a row for each image, but their shapes are"
            f" {shapes}"
        )
    if not len(data.labels):
        raise DfalError(
            "there is no labelled image to train on: give the pool some known labels first"
        )
    if settings.augment not in {"none", AUTO} and data.images.ndim != 4:
        raise DfalError(
            f"the augmentation {settings.augment} changes images, but the data have the shape"
            f" {tuple(data.images.shape[1:])}: leave it out"
        )
    return replace(data, labels=data.labels.long())
