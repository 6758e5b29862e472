"""TIFF files that Pillow does not read, or reads wrongly: other depths, white that is zero, planes,
other colours.

Source: TIFF revision 6.0 (Adobe, 1992), and its technical notes for BigTIFF and floating-point
predictors.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANES = 273, 274, 277, 278, 279, 284
PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 317, 320, 322, 323, 324, 325
EXTRA, FORMAT, JPEG_TABLES, SUBSAMPLING, POSITIONING, BLACK_WHITE = 338, 339, 347, 530, 531, 532
PIXELS = frozenset(
    {
        WIDTH,
        HEIGHT,
        BITS,
        COMPRESSION,
        PHOTOMETRIC,
        FILL_ORDER,
        STRIPS,
        ORIENTATION,
        SAMPLES,
        ROWS,
        STRIP_BYTES,
        PLANES,
    }
    | {
        PREDICTOR,
        COLOURS,
        TILE_WIDTH,
        TILE_HEIGHT,
        TILES,
        TILE_BYTES,
        EXTRA,
        FORMAT,
        JPEG_TABLES,
        SUBSAMPLING,
    }
    | {POSITIONING, BLACK_WHITE, 292, 293, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529}
)
"""Tags that pixels depend on. All others are metadata."""
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
UNSIGNED, SIGNED, FLOATING = 1, 2, 3
FAX, JPEG = frozenset({2, 3, 4, 32771}), frozenset({6, 7, 34892, 33003, 33005, 34712})
"""Compressions of whole pixels, which Pillow decodes to 8 bits, and no others."""
BLOCK = 2**22
"""Samples that are converted at a time."""
_FORMS = {
    1: "B",
    2: "B",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
}
_FORMS |= {16: "Q", 17: "q", 18: "Q"}

# From CIE L*a*b* at the white of D50 to linear sRGB, adapted after Bradford.
_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_WHITE = np.array([0.96422, 1.0, 0.82521])


@dataclass(frozen=True)
class Tiff:
    """What the first page of a TIFF file says of its pixels."""

    order: str
    tags: dict[int, tuple[Any, ...]]
    raw: dict[int, tuple[int, int, bytes]]

    def one(self, tag: int, default: int = 0) -> int:
        """Return the only, or first, value of a tag."""
        value = self.tags.get(tag, (default,))
        return int(value[0])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.one(WIDTH), self.one(HEIGHT)

    @property
    def samples(self) -> int:
        return self.one(SAMPLES, 1)

    @property
    def bits(self) -> int:
        return self.one(BITS, 1)

    @property
    def format(self) -> int:
        found = self.one(FORMAT, UNSIGNED)
        return UNSIGNED if found == 4 else found  # 4: nobody knows, which is taken for the usual

    @property
    def photometric(self) -> int:
        return self.one(PHOTOMETRIC, 1)

    @property
    def turned(self) -> int:
        """How the image is turned, 1 to 8."""
        found = self.one(ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1

    @property
    def grey(self) -> bool:
        return self.photometric in {0, 1}

    def suits_pillow(self) -> bool:
        """Tell whether Pillow reads these pixels rightly."""
        bits, kind, samples = self.bits, self.photometric, self.samples
        if self.one(COMPRESSION, 1) in FAX | JPEG:
            return True
        if self.format == FLOATING:
            return (bits, kind, samples, self.order) == (32, 1, 1, "<")
        if self.format != UNSIGNED or len(set(self.tags.get(BITS, (1,)))) > 1:
            return False
        if samples > 1 and self.one(PLANES, 1) != 1:
            return False
        if samples == 1:
            plain = (bits in {1, 2, 4, 8} and kind in {0, 1, 3}) or (bits == 16 and kind == 1)
            return plain and not (bits == 16 and self.one(FILL_ORDER, 1) != 1)
        small = bits == 8 or (bits == 16 and self.one(FILL_ORDER, 1) == 1)
        return small and (kind, samples) in {(2, 3), (2, 4), (5, 4)}


def parse(content: bytes) -> Tiff | None:
    """Read the tags of the first page that pixels depend on. None where this is no TIFF file, or
    its list is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        return None
    tags: dict[int, tuple[Any, ...]] = {}
    raw: dict[int, tuple[int, int, bytes]] = {}
    try:
        (magic,) = struct.unpack_from(f"{order}H", content, 2)
        if magic not in {42, 43}:
            return None
        big = magic == 43
        (start,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", content, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", content, start)
        start += 8 if big else 2
        step = 20 if big else 12
        for at in range(start, start + step * min(count, 4096), step):
            tag, kind, length = struct.unpack_from(
                f"{order}HHQ" if big else f"{order}HHI", content, at
            )
            if tag not in PIXELS or kind not in _FORMS or length < 1:
                continue
            place = at + (12 if big else 8)
            size = struct.calcsize(f"={_FORMS[kind]}") * length
            if size > (8 if big else 4):
                (place,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", content, place)
            if place + size > len(content):
                continue
            tags[tag] = struct.unpack_from(f"{order}{_FORMS[kind] * length}", content, place)
            raw[tag] = (kind, length, content[place : place + size])
    except struct.error:
        return None
    if not (tags.get(WIDTH) and tags.get(HEIGHT) and (tags.get(STRIPS) or tags.get(TILES))):
        return None
    return Tiff(order, tags, raw)


def without_metadata(content: bytes, tiff: Tiff) -> bytes:
    """Return the file with another list of tags in place of its own: those that pixels depend
    on."""
    head = struct.pack(f"{tiff.order}2sHI", content[:2], 42, len(content))
    entries, more = [], b""
    end = len(content) + 2 + 12 * len(tiff.raw) + 4
    for tag, (kind, length, value) in sorted(tiff.raw.items()):
        if kind in {16, 17, 18}:  # a classic list knows 32 bits
            kind, value = 4, struct.pack(f"{tiff.order}{length}I", *tiff.tags[tag])  # noqa: PLW2901
        place = (
            value.ljust(4, b"\0")
            if len(value) <= 4
            else struct.pack(f"{tiff.order}I", end + len(more))
        )
        more += value if len(value) > 4 else b""
        entries.append(struct.pack(f"{tiff.order}HHI", tag, kind, length) + place)
    listed = struct.pack(f"{tiff.order}H", len(entries)) + b"".join(entries) + bytes(4)
    return head + content[8:] + listed + more


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
    known = (
        set(range(1, 17)) | {32}
        if tiff.format in {UNSIGNED, SIGNED}
        else {16, 32, 64}
        if tiff.format == FLOATING
        else set()
    )
    if tiff.bits not in known:
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
    top = _top(values, tiff)
    pixels = _eight_bits(values, top)
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


def _top(values: NDArray[Any], tiff: Tiff) -> float:
    """The value of white. Raises where that is not known."""
    low, high = values.min(), values.max()
    if tiff.format == FLOATING:
        top = 1.0
    elif tiff.bits == 32:
        # what whole numbers of 32 bits hold are counts, nearly always of a detector with 16
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


def _eight_bits(values: NDArray[Any], top: float) -> UInt8[np.ndarray, "h w s"]:
    pixels = np.empty(values.shape, np.uint8)
    step = max(1, BLOCK // max(1, values[0].size))
    for at in range(0, len(values), step):
        pixels[at : at + step] = (values[at : at + step] * (255 / top)).round()
    return pixels


def _samples(content: bytes, tiff: Tiff) -> NDArray[Any]:
    """All samples as numbers, (height, width, samples)."""
    if tiff.one(PLANES, 1) == 1 or tiff.samples == 1:
        return _plane(content, tiff, tiff.samples, 0)
    return np.concatenate([_plane(content, tiff, 1, plane) for plane in range(tiff.samples)], -1)


def _plane(content: bytes, tiff: Tiff, samples: int, plane: int) -> NDArray[Any]:
    width, height = tiff.size
    tiled = bool(tiff.tags.get(TILES))
    across, tall = (tiff.one(TILE_WIDTH), tiff.one(TILE_HEIGHT)) if tiled else (width, height)
    if across < 1 or tall < 1:
        raise ValueError("it cannot be read (its tiles have no size)")
    row = -(-across * tiff.bits * samples // 8)
    side, down = -(-width // across), -(-height // tall)
    lines = _lines(
        content, tiff, row * (side if tiled else 1), down * tall if tiled else height, plane
    )
    if not tiled:
        return _numbers(lines, tiff, width, samples)
    tiles = _numbers(lines.reshape(down * tall * side, row), tiff, across, samples)
    return tiles.reshape(down * tall, side * across, samples)[:height, :width]


def _lines(
    content: bytes, tiff: Tiff, width: int, height: int, plane: int
) -> UInt8[np.ndarray, "h w"]:
    """The bytes of a plane as they are after decompression: `width` bytes a line.

    Pillow decompresses them, told that they are a grey image of 8 bits; what they mean does not
    matter to it.
    """
    tiled = bool(tiff.tags.get(TILES))
    starts = tiff.tags[TILES if tiled else STRIPS]
    lengths = [*tiff.tags.get(TILE_BYTES if tiled else STRIP_BYTES, ())]
    rows = tiff.one(TILE_HEIGHT) if tiled else min(tiff.one(ROWS, height) or height, height)
    each = (
        -(-tiff.size[0] // tiff.one(TILE_WIDTH)) * -(-tiff.size[1] // rows)
        if tiled
        else -(-height // rows)
    )
    starts = starts[plane * each : (plane + 1) * each]
    compression, block = (
        tiff.one(COMPRESSION, 1),
        (width // (-(-tiff.size[0] // tiff.one(TILE_WIDTH))) if tiled else width),
    )
    if compression == 1:
        lengths = [block * (rows if tiled else min(rows, height - at * rows)) for at in range(each)]
    else:
        lengths = lengths[plane * each : (plane + 1) * each]
    if len(starts) != each or len(lengths) != each:
        raise ValueError("it cannot be read (its list of strips is damaged)")
    parts = [content[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    if any(len(part) < length for part, length in zip(parts, lengths, strict=True)):
        raise ValueError("it cannot be read (image file is truncated)")
    places = [8]
    for part in parts:
        places.append(places[-1] + len(part))
    entries = {
        WIDTH: [width],
        HEIGHT: [height],
        BITS: [8],
        COMPRESSION: [compression],
        PHOTOMETRIC: [1],
        FILL_ORDER: [tiff.one(FILL_ORDER, 1)],
        SAMPLES: [1],
        **({TILE_WIDTH: [block], TILE_HEIGHT: [rows]} if tiled else {ROWS: [rows]}),
        TILES if tiled else STRIPS: places[:-1],
        TILE_BYTES if tiled else STRIP_BYTES: lengths,
    }
    fake = Tiff(
        "<",
        {tag: tuple(value) for tag, value in entries.items()},
        {
            tag: (4, len(value), struct.pack(f"<{len(value)}I", *value))
            for tag, value in entries.items()
        },
    )
    file = without_metadata(b"II*\0\0\0\0\0" + b"".join(parts), fake)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return np.asarray(image)


def _numbers(lines: UInt8[np.ndarray, "h b"], tiff: Tiff, width: int, samples: int) -> NDArray[Any]:
    """Lines of bytes as numbers, (height, width, samples), with the predictor undone."""
    height, count, bits = len(lines), width * samples, tiff.bits
    predictor = tiff.one(PREDICTOR, 1)
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
        step = max(1, BLOCK // max(1, count * bits))
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
    colours = np.array(tiff.tags.get(COLOURS, ()))
    if len(colours) < 3 or len(colours) % 3 or values.max() >= len(colours) // 3:
        raise ValueError("it cannot be read (its palette is damaged)")
    return Image.fromarray((colours.reshape(3, -1).T // 256).astype(np.uint8)[values])


def _from_ycbcr(content: bytes, tiff: Tiff) -> Image.Image:
    """Brightness for each pixel, colours for blocks of them."""
    if tiff.bits != 8 or tiff.tags.get(TILES) or tiff.samples != 3 or tiff.one(PREDICTOR, 1) != 1:
        raise ValueError("its colours are YCbCr in a form that is not read: save it as RGB")
    if tiff.one(PLANES, 1) != 1:
        raise ValueError("its colours are YCbCr in planes, which is not read: save it as RGB")
    width, height = tiff.size
    sub = tiff.tags.get(SUBSAMPLING, (2, 2))
    h, v = (int(sub[0]), int(sub[1])) if len(sub) > 1 else (0, 0)
    rows = min(tiff.one(ROWS, height) or height, height)
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
    """CIE L*a*b* with the white of D50, as TIFF keeps it, in sRGB."""
    if bits not in {8, 16} or values.dtype.kind != "u":
        raise ValueError(f"its colours are Lab with {bits} bits, which is not read: save it as RGB")
    pixels = np.empty((*values.shape[:2], 3), np.uint8)
    step = max(1, BLOCK // max(1, values.shape[1] * 3))
    signed, unit = (np.int8, 1.0) if bits == 8 else (np.int16, 256.0)
    for at in range(0, len(values), step):
        part = np.ascontiguousarray(values[at : at + step, :, :3].astype(f"=u{bits // 8}"))
        light = part[..., 0] * (100 / (2**bits - 1))
        a, b = (part[..., place].view(signed).astype(np.float64) / unit for place in (1, 2))
        y = (light + 16) / 116
        f = np.stack([y + a / 500, y, y - b / 200], -1)
        xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
        linear = (xyz @ _TO_RGB.T).clip(0, 1)
        shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        pixels[at : at + step] = (shown * 255).round()
    return pixels
