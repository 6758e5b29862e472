"""A data set in one picture: a row for each class, samples spread over it."""

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
"""Pixels: an image, the space beside it, the space around all, the title's height."""
COLUMNS = 14
ROWS = 30
"""Classes shown, at most."""
INK, FAINT = "#202020", "#6e6e6e"


def write(data: Dataset, name: str, path: Path) -> None:
    """Write the picture as a PNG.

    Raises:
        DfalError: for a file that cannot be written, or whose name ends in another format.
    """
    if path.suffix.lower() != ".png":
        raise DfalError(f"the picture {path} would be a PNG: let its name end in .png")
    drawn = draw(data, name)
    with atomic_write(path, "name another with --picture", "the picture") as part:
        drawn.save(part, "PNG", optimize=True)


def draw(data: Dataset, name: str) -> Image.Image:
    """The picture: what can be asked about, not the test set."""
    fonts = {size: _font(size) for size in (13, 15, 22)}
    labels = data.classes[:ROWS]
    counts = [int((data.labels == at).sum()) for at in range(len(labels))]
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
    what = f"{shape} pixels, {'colour' if colourful else 'grey'}"
    below = (
        f"{len(data.images):,} images to ask about, {len(data.test_images):,} to test on, {what}"
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
    """Images of a class, evenly spread over it."""
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
    """DejaVu Sans, which matplotlib carries: it knows the letters of most languages."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size
    )
