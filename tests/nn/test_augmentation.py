"""Augmentations change images as they say, and draw from their generator alone."""

import pytest
import torch
from torch import Tensor

from dfal.errors import DfalError
from dfal.nn import AUGMENTATIONS
from dfal.nn.augmentation import DrawnChange, Range, photographs, shapes, shifted
from dfal.nn.custom_augmentation import load_augmentation


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


def test_shapes_move_what_is_in_the_picture_and_keep_its_colour() -> None:
    images = torch.zeros(300, 1, 28, 28)
    images[:, :, 10:18, 10:18] = 1
    changed = shapes(images, torch.Generator().manual_seed(0))
    places = torch.arange(28.0)
    mass = changed.sum((1, 2, 3))
    across = (changed.sum((1, 2)) @ places) / mass
    down = (changed.sum((1, 3)) @ places) / mass
    assert (mass > 20).all()
    assert 0.7 < mass.mean() / 64 < 1.3
    for centre in (across, down):
        assert 13 < centre.mean() < 14
        assert 1 < centre.std() < 3
    # Each is bent by a field of its own, not only turned and stretched.
    assert changed[:, :, 10:18, 10:18].flatten(1).unique(dim=0).shape[0] == 300


def test_shapes_repeat_the_border() -> None:
    changed = shapes(torch.ones(50, 3, 20, 30), torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed, torch.ones(50, 3, 20, 30))


@pytest.mark.parametrize("name", ["shapes", "drawings", "photographs"])
def test_a_weak_look_is_a_shift_and_perhaps_the_mirror_image(name: str) -> None:
    images = torch.rand(60, 2, 14, 14, generator=torch.Generator().manual_seed(0))
    changed = AUGMENTATIONS[name].weak(images, torch.Generator().manual_seed(1))
    assert changed.shape == images.shape
    mirrored = 0
    for image, look in zip(images, changed, strict=True):
        shifts = {
            (across, down, flip)
            for across in (-1, 0, 1)
            for down in (-1, 0, 1)
            for flip in (False, True)
            if torch.equal(
                (image.flip(2) if flip else image)[
                    :, 1 + down : 13 + down, 1 + across : 13 + across
                ],
                look[:, 1:13, 1:13],
            )
        }
        ((_, _, flip),) = shifts
        mirrored += flip
    assert mirrored == 0 if name == "shapes" else 15 < mirrored < 45


def test_features_are_not_shifted() -> None:
    rows = torch.rand(4, 7)
    assert shifted(rows, torch.Generator()) is rows


@pytest.mark.parametrize(
    "among", [Range(-2, 3, whole=True), Range(0, 512, whole=True), Range(-0.5, 1)]
)
def test_numbers_of_uniform_draws_fill_their_range_evenly(among: Range) -> None:
    draws = torch.cat([torch.arange(5120) / 5120, torch.tensor([1 - 2**-24])])
    numbers = among.at(draws)
    assert among.low <= numbers.min() <= numbers.max() < among.high
    if among.whole:
        counts = (numbers[:-1] - int(among.low)).bincount()
        assert counts.unique().tolist() == [5120 / (among.high - among.low)]
    drawn = among.draw(2000, torch.Generator().manual_seed(0))
    assert drawn.dtype == numbers.dtype
    width = among.high - among.low
    assert drawn.double().mean().item() == pytest.approx(
        numbers.double().mean().item(), abs=0.03 * width
    )
    assert among.low <= drawn.min() <= drawn.max() < among.high


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_changed_by_its_own_numbers(name: str) -> None:
    """An image alone and one among others, with the same numbers, are changed to the same."""
    images = torch.rand(6, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    for change in (AUGMENTATIONS[name].strong, AUGMENTATIONS[name].weak):
        assert isinstance(change, DrawnChange)
        rng = torch.Generator().manual_seed(1)
        ranges = change.ranges((3, 9, 12))
        numbers = {number: each.draw(6, rng) for number, each in ranges.items()}
        apply = change.prepare((3, 9, 12), images.device)
        together = apply(images, numbers)
        assert torch.equal(together, change(images, torch.Generator().manual_seed(1)))
        for place in range(6):
            one = {number: each[[place]] for number, each in numbers.items()}
            torch.testing.assert_close(apply(images[[place]], one), together[[place]])


def brighter(images: Tensor, rng: torch.Generator) -> Tensor:
    return images + 0.1 * torch.rand(len(images), 1, 1, 1, generator=rng)


def flipped_by_chance(image: Tensor) -> Tensor:
    return image.flip(2) if torch.rand(()) < 0.5 else image


def too_many(images: Tensor, rng: torch.Generator) -> Tensor:
    return images[:1]


@pytest.mark.parametrize("name", ["brighter", "flipped_by_chance"])
def test_an_augmentation_of_the_users_is_drawn_from_the_generator(name: str) -> None:
    augment = load_augmentation(f"{__name__}:{name}")
    images, state = smooth(), torch.get_rng_state()
    one, again, other = (augment(images, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert augment.weak is shifted


def test_what_is_no_augmentation_is_one_sentence() -> None:
    with pytest.raises(DfalError, match=r"there is no augmentation 'shape'.*shapes"):
        load_augmentation("shape")
    with pytest.raises(DfalError, match=r"returned .* for images of shape"):
        load_augmentation(f"{__name__}:too_many")(smooth(), torch.Generator())
    with pytest.raises(DfalError, match="must be a function"):
        load_augmentation("builtins:int")
    with pytest.raises(DfalError, match="fails"):
        load_augmentation("math:sqrt")(smooth(), torch.Generator())
