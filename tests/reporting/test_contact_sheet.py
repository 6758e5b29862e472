from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.reporting import contact_sheet


def dataset(classes: int, each: int, channels: int = 1) -> Dataset:
    """Every image of a class has the class's brightness."""
    labels = torch.arange(classes).repeat_interleave(each)
    pixels = (
        (labels * 7 + 20).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, channels, 8, 6).numpy()
    )
    return Dataset(
        Images(pixels),
        labels,
        Images(pixels),
        labels,
        tuple(f"class {n} <b>" * (1 + n) for n in range(classes)),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_every_class_has_a_row_of_its_own_images(tmp_path: Path, channels: int) -> None:
    contact_sheet.write(dataset(4, 50, channels), "mine", tmp_path / "mine.png")
    picture = np.asarray(Image.open(tmp_path / "mine.png").convert("L"))
    for label in range(4):
        y = (
            contact_sheet.HEAD
            + contact_sheet.MARGIN
            + label * (contact_sheet.CELL + contact_sheet.GAP)
            + contact_sheet.CELL // 2
        )
        row = picture[y]
        assert (row == 20 + 7 * label).sum() >= contact_sheet.COLUMNS * 40, label
        others = {20 + 7 * other for other in range(4)} - {20 + 7 * label}
        assert not others & set(row[-400:].tolist())


def test_few_images_leave_white_and_many_classes_are_cut_off_with_a_word() -> None:
    few = np.asarray(contact_sheet.draw(dataset(2, 3), "few").convert("L"))
    assert (few[:, -contact_sheet.CELL :] == 255).all()
    assert contact_sheet.draw(dataset(40, 2), "many").height < contact_sheet.HEAD * 2 + 40 + 31 * (
        contact_sheet.CELL + contact_sheet.GAP
    )


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DfalError, match=r"let its name end in \.png"):
        contact_sheet.write(dataset(2, 2), "mine", tmp_path / "mine.jpg")
    with pytest.raises(DfalError, match="cannot be written"):
        contact_sheet.write(dataset(2, 2), "mine", tmp_path / "nowhere" / "mine.png")
    assert list(tmp_path.iterdir()) == []
