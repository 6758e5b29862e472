"""Augmentations change images as they say, and draw from their generator alone."""

import pytest
import torch
from torch import Tensor

from dfal.nn import AUGMENTATIONS
from dfal.nn.augmentation import photographs


def smooth(n: int = 64, channels: int = 3, side: int = 16) -> Tensor:
    """Images that become brighter from left to right, each of another colour."""
    ramp = torch.linspace(0.1, 0.8, side).expand(n, channels, side, side)
    return ramp * torch.linspace(0.4, 1, n * channels).view(n, channels, 1, 1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_augmentation_gives_images_of_the_same_kind(name: str, channels: int) -> None:
    images = smooth(channels=channels)
    before, state = images.clone(), torch.get_rng_state()
    changed, again, other = (
        AUGMENTATIONS[name](images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(images, before), "the images themselves are changed"
    assert torch.equal(torch.get_rng_state(), state), "it draws from the global generator"
    assert torch.equal(changed, again)
    assert torch.equal(changed, other) == (name == "none")


def test_photographs_are_mirrored_half_of_the_time_and_cut() -> None:
    images = smooth(400)
    changed = photographs(images, torch.Generator().manual_seed(0))
    columns = changed.mean((1, 2))
    mirrored = columns[:, 0] > columns[:, -1]
    assert 160 < int(mirrored.sum()) < 240
    # What is cut out spans less than the whole, and no bar comes in from outside.
    upright = torch.where(mirrored[:, None], columns.flip(1), columns)
    assert (upright.diff(dim=1) >= -1e-6).all(), "something else than the image is in the picture"
    spans = (upright[:, -1] - upright[:, 0]) / (columns.mean(1))
    assert spans.std() > 0.05
    assert (changed - images).abs().mean((1, 2, 3)).min() > 0


def test_colours_stay_near_what_they_were() -> None:
    red = torch.zeros(200, 3, 8, 8)
    red[:, 0] = 0.6
    changed = photographs(red, torch.Generator().manual_seed(0)).mean((2, 3))
    assert (changed[:, 0] > changed[:, 1:].max(1).values + 0.2).all()
    assert changed[:, 0].std() > 0.03
