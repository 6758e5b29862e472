"""The augmentation with which labels are predicted best that were not trained on."""

import torch
from torch import nn

import dfal
from dfal.nn.augmentation_choice import MIN_IMAGES, suited_augmentation


def bars(n: int) -> dfal.LabelledData:
    """A bar on the left or on the right: what is mirrored is of the other class."""
    labels = torch.arange(n) % 2
    images = 0.1 * torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for image, label in zip(images, labels, strict=True):
        image[:, :, 1:4] += 0.8 * (label == 0)
        image[:, :, 8:11] += 0.8 * (label == 1)
    return dfal.LabelledData(images, labels, torch.arange(n))


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 2))


def test_what_must_not_be_mirrored_is_not() -> None:
    settings = dfal.Training(epochs=1, steps=60, augment="auto", learning_rate=0.01)
    choice = suited_augmentation(dfal.fit, network, bars(30), settings, seed=0)
    assert choice in {"none", "shapes"}
    model = dfal.fit(network, bars(30), settings, seed=0)
    assert (dfal.predict(model, bars(30).images).argmax(1) == bars(30).labels).all()


def test_too_few_images_and_features_are_left_as_they_are() -> None:
    settings = dfal.Training(augment="auto")

    def fit(*_: object) -> nn.Module:
        raise AssertionError("nothing is to be trained")

    few = bars(MIN_IMAGES - 1)
    assert suited_augmentation(fit, network, few, settings, seed=0) == "none"
    rows = dfal.LabelledData(torch.rand(40, 5), torch.arange(40) % 2, torch.arange(40))
    assert suited_augmentation(fit, network, rows, settings, seed=0) == "none"
