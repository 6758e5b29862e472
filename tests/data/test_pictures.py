import numpy as np
import pytest
import torch

from dfal.data.pictures import to_picture


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_every_brightness_stays_as_it_is(channels: int, mode: str) -> None:
    values = torch.arange(256).repeat(channels, 1).reshape(channels, 8, 32)
    picture = to_picture(values / 255)
    assert (picture.mode, picture.size) == (mode, (32, 8))
    pixels = np.asarray(picture).reshape(8, 32, channels).transpose(2, 0, 1)
    assert np.array_equal(pixels, values.numpy())


def test_values_outside_are_cut_off_and_others_rounded() -> None:
    values = np.array([[[-1.0, 2.0, 0.4 / 255, 0.6 / 255]]], np.float32)
    assert np.asarray(to_picture(values)).tolist() == [[0, 255, 0, 1]]
