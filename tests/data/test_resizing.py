"""Images in memory become another size as files do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfal.data.image_files import fitted
from dfal.data.resizing import resized
from dfal.errors import DfalError


def smooth(
    height: int, width: int, channels: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An image without edges, of which every way of resizing makes about the same."""
    y, x = np.mgrid[:height, :width]
    waves = [120 + 100 * np.sin(y / 9 + c) * np.cos(x / 7) for c in range(channels)]
    return np.stack(waves, 2).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wanted", [1, 3])
@pytest.mark.parametrize("size", [(40, 40), (40, 24), (24, 40), (16, 16), (64, 64), (100, 90)])
def test_is_what_the_file_becomes(
    tmp_path: Path, size: tuple[int, int], wanted: int, channels: int
) -> None:
    image = smooth(*size, channels)
    Image.fromarray(image.squeeze()).save(tmp_path / "image.png")
    from_file = fitted(tmp_path / "image.png", (40, 40), wanted).transpose(2, 0, 1) / 255
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255
    (ours,) = resized(tensor, (wanted, 40, 40)).numpy()
    assert ours.shape == from_file.shape
    assert np.abs(ours - from_file).max() < 0.03


def test_stays_between_black_and_white_and_as_it_is_in_its_own_size() -> None:
    images = (torch.rand(3, 1, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    larger = resized(images, (1, 30, 30))
    assert larger.min() >= 0
    assert larger.max() <= 1
    assert torch.equal(resized(images, (1, 9, 9)), images)


@pytest.mark.parametrize(("have", "wanted"), [(4, 3), (2, 1), (1, 2)])
def test_other_channels_are_refused(have: int, wanted: int) -> None:
    with pytest.raises(DfalError, match=f"have {have} channels?, but {wanted} are needed"):
        resized(torch.rand(1, have, 8, 8), (wanted, 8, 8))
