"""Pixels of TIFF files that Pillow does not read, or reads wrongly.

These have other depths, white that is zero, planes, or other colours.

Source: TIFF revision 6.0 (Adobe, 1992), and its technical note for floating-point predictors.
"""

import io
import itertools
import struct
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from dfal.data.tiff import (
    BITS,
    COLOURS,
    COMPRESSION,
    EXTRA,
    FILL_ORDER,
    FLOATING,
    HEIGHT,
    PHOTOMETRIC,
    PLANES,
    PREDICTOR,
    ROWS,
    SAMPLES,
    SIGNED,
    STRIP_BYTES,
    STRIPS,
    SUBSAMPLING,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILES,
    UNSIGNED,
    WIDTH,
    Tiff,
    without_metadata,
)

COLOUR_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Photometric kind → samples of a pixel without extra ones."""
OTHER_KINDS = {
    4: "a mask",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "raw camera data",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw data",
}
DEPTHS = {UNSIGNED: {*range(1, 17), 32}, SIGNED: {*range(1, 17), 32}, FLOATING: {16, 32, 64}}
"""Kind of numbers → bits of a sample that are read."""
SAMPLES_AT_ONCE = 2**22
"""Samples that are converted at a time."""

XYZ_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""To linear sRGB from XYZ at the white of D50, adapted after Bradford."""
WHITE_D50 = np.array([0.96422, 1.0, 0.82521])
"""X, Y and Z of that white."""


def read(content: bytes, tiff: Tiff) -> Image.Image:  # noqa: PLR0911  one for each kind of colours
    """Decode an image to 8 bits: mode L, RGB, LA or RGBA, not turned yet.

    Raises:
        ValueError: with the reason, where it cannot be read or its brightness is not known.
    """
    kind, samples = tiff.photometric, tiff.samples
    if kind not in COLOUR_SAMPLES:
        raise ValueError(
            f"its colours are {OTHER_KINDS.get(kind, f'of the kind {kind}')}, which is not read:"
            " save it as RGB"
        )
    depths = set(tiff.tags.get(BITS, (1,)))
    if len(depths) > 1:
        listed = ", ".join(map(str, tiff.tags[BITS]))
        raise ValueError(
            f"its channels have different depths ({listed} bits): save it with 8 or 16 bits"
        )
    if tiff.bits not in DEPTHS.get(tiff.format, ()):
        what = {UNSIGNED: "whole", SIGNED: "signed whole", FLOATING: "floating-point"}.get(
            tiff.format, "complex"
        )
        raise ValueError(
            f"its pixels are {what} numbers of {tiff.bits} bits: save it with 8 or 16 bits"
        )
    colours = COLOUR_SAMPLES[kind]
    if samples < colours:
        raise ValueError(f"it has {samples} of the {colours} channels that its colours need")
    if kind == 6:
        return _from_ycbcr(content, tiff)
    values = _samples(content, tiff)
    if kind == 3:
        return _from_palette(values[..., 0], tiff)
    if kind == 8:
        return Image.fromarray(_from_lab(values, tiff.bits))
    top = _white_level(values, tiff)
    pixels = _to_eight_bits(values, top)
    if kind == 0:
        pixels[..., :1] = 255 - pixels[..., :1]
    if kind == 5:
        return Image.fromarray(np.ascontiguousarray(pixels[..., :4]), "CMYK").convert("RGB")
    extra = tiff.tags.get(EXTRA, (2,) if kind == 2 and samples == 4 else ())
    alpha = next(
        (at for at, what in enumerate(extra) if what in {1, 2} and colours + at < samples), None
    )
    colour = pixels[..., :colours]
    if alpha is None:
        return Image.fromarray(np.ascontiguousarray(colour if colours == 3 else colour[..., 0]))
    cover = pixels[..., colours + alpha : colours + alpha + 1]
    if extra[alpha] == 1:  # the colours are multiplied with it already
        on_white = (colour.astype(np.uint16) + (255 - cover)).clip(max=255).astype(np.uint8)
        return Image.fromarray(on_white if colours == 3 else on_white[..., 0])
    return Image.fromarray(np.concatenate([colour, cover], -1), "RGBA" if colours == 3 else "LA")


def _white_level(values: NDArray[Any], tiff: Tiff) -> float:
    """Return the value of white.

    Raises:
        ValueError: where values lie outside the range that is understood.
    """
    low, high = values.min(), values.max()
    if tiff.format == FLOATING:
        top = 1.0
    elif tiff.bits == 32:
        # Whole numbers of 32 bits are counts, nearly always of a detector with 16.
        top = 65535.0
    elif tiff.format == SIGNED:
        top = float(2 ** (tiff.bits - 1) - 1)
    else:
        return float(2**tiff.bits - 1)
    if not (low >= 0 and high <= top):  # NaN is not either
        raise ValueError(
            f"its pixels lie between {low:g} and {high:g}, but 0 to {top:g} is understood"
        )
    return top


def _to_eight_bits(values: NDArray[Any], top: float) -> UInt8[np.ndarray, "h w s"]:
    """Scale values so that `top` becomes 255, some rows at a time."""
    pixels = np.empty(values.shape, np.uint8)
    step = max(1, SAMPLES_AT_ONCE // max(1, values[0].size))
    for at in range(0, len(values), step):
        pixels[at : at + step] = (values[at : at + step] * (255 / top)).round()
    return pixels


def _samples(content: bytes, tiff: Tiff) -> NDArray[Any]:
    """Return all samples as numbers (height, width, samples)."""
    if tiff.first(PLANES, 1) == 1 or tiff.samples == 1:
        return _plane(content, tiff, tiff.samples, 0)
    return np.concatenate([_plane(content, tiff, 1, plane) for plane in range(tiff.samples)], -1)


def _plane(content: bytes, tiff: Tiff, samples: int, plane: int) -> NDArray[Any]:
    """Return the numbers of a plane (height, width, samples)."""
    width, height = tiff.size
    tiled = bool(tiff.tags.get(TILES))
    across, tall = (tiff.first(TILE_WIDTH), tiff.first(TILE_HEIGHT)) if tiled else (width, height)
    if across < 1 or tall < 1:
        raise ValueError("it cannot be read (its tiles have no size)")
    row_bytes = -(-across * tiff.bits * samples // 8)
    if not tiled:
        return _numbers(_lines(content, tiff, row_bytes, height, plane), tiff, width, samples)
    columns, rows = -(-width // across), -(-height // tall)
    lines = _lines(content, tiff, row_bytes * columns, rows * tall, plane)
    tiles = _numbers(lines.reshape(rows * tall * columns, row_bytes), tiff, across, samples)
    return tiles.reshape(rows * tall, columns * across, samples)[:height, :width]


def _lines(
    content: bytes, tiff: Tiff, width: int, height: int, plane: int
) -> UInt8[np.ndarray, "h w"]:
    """Return the decompressed bytes of a plane.

    Pillow decompresses them as a grey image of 8 bits, whatever the bytes stand for.

    Args:
        content: the file.
        tiff: its tags.
        width: bytes of a line.
        height: lines.
        plane: the number of the plane, from 0.

    Raises:
        ValueError: where a strip or tile is missing or cut off.
    """
    tiled = bool(tiff.tags.get(TILES))
    starts = tiff.tags[TILES if tiled else STRIPS]
    lengths = [*tiff.tags.get(TILE_BYTES if tiled else STRIP_BYTES, ())]
    rows = tiff.first(TILE_HEIGHT) if tiled else min(tiff.first(ROWS, height) or height, height)
    columns = -(-tiff.size[0] // tiff.first(TILE_WIDTH)) if tiled else 1
    count = columns * -(-tiff.size[1] // rows) if tiled else -(-height // rows)
    starts = starts[plane * count : (plane + 1) * count]
    compression, row_bytes = tiff.first(COMPRESSION, 1), width // columns
    if compression == 1:
        lengths = [row_bytes * rows] * count
        if not tiled:
            lengths[-1] = row_bytes * (height - (count - 1) * rows)
    else:
        lengths = lengths[plane * count : (plane + 1) * count]
    if len(starts) != count or len(lengths) != count:
        raise ValueError("it cannot be read (its list of strips is damaged)")
    strips = [content[at : at + length] for at, length in zip(starts, lengths, strict=True)]
    if any(len(strip) < length for strip, length in zip(strips, lengths, strict=True)):
        raise ValueError("it cannot be read (image file is truncated)")
    places = list(itertools.accumulate(map(len, strips), initial=8))
    entries = {
        WIDTH: [width],
        HEIGHT: [height],
        BITS: [8],
        COMPRESSION: [compression],
        PHOTOMETRIC: [1],
        FILL_ORDER: [tiff.first(FILL_ORDER, 1)],
        SAMPLES: [1],
        **({TILE_WIDTH: [row_bytes], TILE_HEIGHT: [rows]} if tiled else {ROWS: [rows]}),
        TILES if tiled else STRIPS: places[:-1],
        TILE_BYTES if tiled else STRIP_BYTES: lengths,
    }
    as_grey = Tiff(
        "<",
        {tag: tuple(value) for tag, value in entries.items()},
        {
            tag: (4, len(value), struct.pack(f"<{len(value)}I", *value))
            for tag, value in entries.items()
        },
    )
    file = without_metadata(b"II*\0\0\0\0\0" + b"".join(strips), as_grey)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return np.asarray(image)


def _numbers(lines: UInt8[np.ndarray, "h b"], tiff: Tiff, width: int, samples: int) -> NDArray[Any]:
    """Turn lines of bytes to numbers (height, width, samples), with the predictor undone.

    Raises:
        ValueError: for a predictor that is not read.
    """
    height, count, bits = len(lines), width * samples, tiff.bits
    predictor = tiff.first(PREDICTOR, 1)
    if (
        predictor not in {1, 2, 3}
        or (predictor == 2 and bits not in {8, 16, 32, 64})
        or (predictor == 3 and tiff.format != FLOATING)
    ):
        raise ValueError(
            f"it is compressed with predictor {predictor} on {bits} bits, which is not read"
        )
    if bits % 8:
        values: NDArray[Any] = np.empty((height, count), np.uint16)
        powers = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
        step = max(1, SAMPLES_AT_ONCE // max(1, count * bits))
        for at in range(0, height, step):
            spread = np.unpackbits(lines[at : at + step], axis=1)[:, : count * bits].reshape(
                -1, count, bits
            )
            values[at : at + step] = spread @ powers
        if tiff.format == SIGNED:
            values = (values.astype(np.int32) ^ (1 << (bits - 1))) - (1 << (bits - 1))
        return values.reshape(height, width, samples)
    size = bits // 8
    lines = np.ascontiguousarray(lines[:, : count * size])
    letter = {UNSIGNED: "u", SIGNED: "i", FLOATING: "f"}[tiff.format]
    if predictor == 3:
        # The bytes of a line lie by their place in the numbers, the highest first, each as the
        # difference to the one before.
        summed = np.cumsum(lines.reshape(height, -1, samples), axis=1, dtype=np.uint8).reshape(
            height, size, count
        )
        return (
            np.ascontiguousarray(summed.transpose(0, 2, 1))
            .view(f">{letter}{size}")
            .reshape(height, width, samples)
        )
    if predictor == 2:
        numbers = (
            lines.view(f"{tiff.order}u{size}").astype(f"=u{size}").reshape(height, width, samples)
        )
        return np.cumsum(numbers, axis=1, dtype=numbers.dtype).view(f"={letter}{size}")
    return lines.view(f"{tiff.order}{letter}{size}").reshape(height, width, samples)


def _from_palette(values: NDArray[Any], tiff: Tiff) -> Image.Image:
    """Look up the colours of pixels in the palette; a `ValueError` where it is damaged."""
    colours = np.array(tiff.tags.get(COLOURS, ()))
    if len(colours) < 3 or len(colours) % 3 or values.max() >= len(colours) // 3:
        raise ValueError("it cannot be read (its palette is damaged)")
    return Image.fromarray((colours.reshape(3, -1).T // 256).astype(np.uint8)[values])


def _from_ycbcr(content: bytes, tiff: Tiff) -> Image.Image:
    """Decode YCbCr: a brightness for each pixel, colours for blocks of h × v pixels.

    Raises:
        ValueError: for a form that is not read.
    """
    if tiff.bits != 8 or tiff.tags.get(TILES) or tiff.samples != 3 or tiff.first(PREDICTOR, 1) != 1:
        raise ValueError("its colours are YCbCr in a form that is not read: save it as RGB")
    if tiff.first(PLANES, 1) != 1:
        raise ValueError("its colours are YCbCr in planes, which is not read: save it as RGB")
    width, height = tiff.size
    sub = tiff.tags.get(SUBSAMPLING, (2, 2))
    h, v = (int(sub[0]), int(sub[1])) if len(sub) > 1 else (0, 0)
    rows = min(tiff.first(ROWS, height) or height, height)
    if h not in {1, 2, 4} or v not in {1, 2, 4} or (rows % v and rows < height):
        raise ValueError("its colours are YCbCr in blocks that cannot be: save it as RGB")
    across, down = -(-width // h), -(-height // v)
    blocks = Tiff(tiff.order, {**tiff.tags, ROWS: (-(-rows // v),)}, tiff.raw)
    lines = _lines(content, blocks, across * (h * v + 2), down, 0).reshape(down, across, h * v + 2)
    bright = (
        lines[..., : h * v]
        .reshape(down, across, v, h)
        .transpose(0, 2, 1, 3)
        .reshape(down * v, across * h)
    )
    colours = lines[..., h * v :].repeat(v, axis=0).repeat(h, axis=1)
    whole = np.concatenate([bright[..., None], colours], -1)[:height, :width]
    return Image.fromarray(np.ascontiguousarray(whole), "YCbCr").convert("RGB")


def _from_lab(values: NDArray[Any], bits: int) -> UInt8[np.ndarray, "h w 3"]:
    """Convert CIE L*a*b* with the white of D50, as TIFF has it, to sRGB.

    Raises:
        ValueError: for other depths than 8 or 16 bits.
    """
    if bits not in {8, 16} or values.dtype.kind != "u":
        raise ValueError(f"its colours are Lab with {bits} bits, which is not read: save it as RGB")
    pixels = np.empty((*values.shape[:2], 3), np.uint8)
    step = max(1, SAMPLES_AT_ONCE // max(1, values.shape[1] * 3))
    signed, unit = (np.int8, 1.0) if bits == 8 else (np.int16, 256.0)
    for at in range(0, len(values), step):
        part = np.ascontiguousarray(values[at : at + step, :, :3].astype(f"=u{bits // 8}"))
        light = part[..., 0] * (100 / (2**bits - 1))
        a, b = (part[..., place].view(signed).astype(np.float64) / unit for place in (1, 2))
        y = (light + 16) / 116
        f = np.stack([y + a / 500, y, y - b / 200], -1)
        xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * WHITE_D50
        linear = (xyz @ XYZ_TO_RGB.T).clip(0, 1)
        shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        pixels[at : at + step] = (shown * 255).round()
    return pixels
