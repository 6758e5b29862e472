"""A picture of a data set: a row for each class, with samples spread over it."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dfal.atomic import atomic_write
from dfal.data.datasets import Dataset
from dfal.data.pictures import to_picture
from dfal.errors import DfalError
from dfal.stats.sampling import evenly_spaced

CELL, GAP, MARGIN, HEAD = 60, 4, 20, 64
"""Pixels of an image, between images, around the picture, and of the title's height."""
COLUMNS = 14
"""Images of a class, at most."""
MAX_CLASSES = 30
"""Classes that are shown, at most."""
INK, FAINT = "#202020", "#6e6e6e"


def write(data: Dataset, name: str, path: Path) -> None:
    """Write the picture of a data set of that name as a PNG.

    Raises:
        DfalError: if the file cannot be written, or its name does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise DfalError(f"the picture {path} would be a PNG: let its name end in .png")
    picture = draw(data, name)
    with atomic_write(path, "name another with --picture", "the picture") as partial:
        picture.save(partial, "PNG", optimize=True)


def draw(data: Dataset, name: str) -> Image.Image:
    """Draw images of the pool, not of the test set."""
    fonts = {size: _font(size) for size in (13, 15, 22)}
    labels = data.classes[:MAX_CLASSES]
    counts = [int((data.labels == label).sum()) for label in range(len(labels))]
    texts = [label if len(label) <= 24 else f"{label[:23]}…" for label in labels]
    widths = [fonts[15].getlength(text) for text in texts] + [
        fonts[13].getlength(f"{count:,}") for count in counts
    ]
    side = round(max(widths)) + MARGIN
    width = 2 * MARGIN + side + COLUMNS * (CELL + GAP) - GAP
    left_out = len(data.classes) - len(labels)
    height = HEAD + 2 * MARGIN + len(labels) * (CELL + GAP) - GAP + (HEAD // 2 if left_out else 0)
    colourful = data.images.shape[0] == 3
    picture = Image.new("RGB" if colourful else "L", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN), name, INK, fonts[22])
    shape = "×".join(map(str, data.images.shape[1:]))
    below = (
        f"{len(data.images):,} images in the pool, {len(data.test_images):,} in the test set,"
        f" {shape} pixels, {'colour' if colourful else 'grey'}"
    )
    pen.text((MARGIN, MARGIN + 30), below, FAINT, fonts[13])
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        y = HEAD + MARGIN + row * (CELL + GAP)
        pen.text((MARGIN, y + CELL // 2 - 2), text, INK, fonts[15], anchor="ls")
        pen.text((MARGIN, y + CELL // 2 + 4), f"{count:,}", FAINT, fonts[13], anchor="lt")
        for column, image in enumerate(_samples(data, row)):
            picture.paste(_cell(image), (MARGIN + side + column * (CELL + GAP), y))
    if left_out:
        pen.text(
            (MARGIN, height - MARGIN), f"and {left_out} more classes", FAINT, fonts[13], anchor="ls"
        )
    return picture


def _samples(data: Dataset, label: int) -> Tensor:
    """Return images of a class, evenly spread over it."""
    members = (data.labels == label).nonzero().squeeze(1)
    return data.images.take(members[evenly_spaced(len(members), COLUMNS)])


def _cell(image: Tensor) -> Image.Image:
    picture = to_picture(image).convert("RGB")
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(
        picture.resize(size, Image.Resampling.BICUBIC),
        ((CELL - size[0]) // 2, (CELL - size[1]) // 2),
    )
    return cell


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships: it has the letters of most languages."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size
    )
