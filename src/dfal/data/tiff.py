"""Tags of TIFF files.

Source: TIFF revision 6.0 (Adobe, 1992), and its technical note for BigTIFF.
"""

import struct
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANES = 273, 274, 277, 278, 279, 284
PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 317, 320, 322, 323, 324, 325
EXTRA, FORMAT, JPEG_TABLES, SUBSAMPLING, POSITIONING, BLACK_WHITE = 338, 339, 347, 530, 531, 532
PIXEL_TAGS = frozenset(
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
UNSIGNED, SIGNED, FLOATING = 1, 2, 3
FAX, JPEG = frozenset({2, 3, 4, 32771}), frozenset({6, 7, 34892, 33003, 33005, 34712})
"""Compressions of whole pixels, which Pillow decodes to 8 bits, and no others."""
FIELD_FORMATS = {
    **dict(enumerate(("B", "B", "H", "I", "II", "b", "B", "h", "i", "ii", "f", "d", "I"), 1)),
    **{16: "Q", 17: "q", 18: "Q"},
}
"""Type of a tag's values → their format for `struct`."""


@dataclass(frozen=True)
class Tiff:
    """The tags of the first page of a TIFF file that its pixels depend on.

    Attributes:
        order: of bytes, as `struct` writes it: "<" or ">".
        tags: tag → its values.
        raw: tag → type, number and bytes of its values.
    """

    order: str
    tags: dict[int, tuple[Any, ...]]
    raw: dict[int, tuple[int, int, bytes]]

    def first(self, tag: int, default: int = 0) -> int:
        """Return the only, or first, value of a tag; the default where it is missing."""
        value = self.tags.get(tag, (default,))
        return int(value[0])

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self.first(WIDTH), self.first(HEIGHT)

    @property
    def samples(self) -> int:
        """Return the number of samples of a pixel, with those that are no colours."""
        return self.first(SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Return the bits of a sample."""
        return self.first(BITS, 1)

    @property
    def format(self) -> int:
        """Return the kind of numbers: `UNSIGNED`, `SIGNED`, `FLOATING`, or another one."""
        kind = self.first(FORMAT, UNSIGNED)
        return UNSIGNED if kind == 4 else kind  # 4 means undefined

    @property
    def photometric(self) -> int:
        """Return the kind of colours: 0 or 1 for grey, 2 for RGB, and others."""
        return self.first(PHOTOMETRIC, 1)

    @property
    def turned(self) -> int:
        """Return the orientation, 1 to 8."""
        orientation = self.first(ORIENTATION, 1)
        return orientation if 1 <= orientation <= 8 else 1

    @property
    def grey(self) -> bool:
        """Return whether the image has no colours."""
        return self.photometric in {0, 1}

    def suits_pillow(self) -> bool:
        """Return whether Pillow reads these pixels correctly."""
        bits, kind, samples = self.bits, self.photometric, self.samples
        if self.first(COMPRESSION, 1) in FAX | JPEG:
            return True
        if self.format == FLOATING:
            return (bits, kind, samples, self.order) == (32, 1, 1, "<")
        if self.format != UNSIGNED or len(set(self.tags.get(BITS, (1,)))) > 1:
            return False
        if samples > 1 and self.first(PLANES, 1) != 1:
            return False
        if samples == 1:
            plain = (bits in {1, 2, 4, 8} and kind in {0, 1, 3}) or (bits == 16 and kind == 1)
            return plain and not (bits == 16 and self.first(FILL_ORDER, 1) != 1)
        small = bits == 8 or (bits == 16 and self.first(FILL_ORDER, 1) == 1)
        return small and (kind, samples) in {(2, 3), (2, 4), (5, 4)}


def parse(content: bytes) -> Tiff | None:
    """Read the tags of the first page that pixels depend on.

    None where this is no TIFF file, or its list of tags is damaged.
    """
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
            if tag not in PIXEL_TAGS or kind not in FIELD_FORMATS or length < 1:
                continue
            place = at + (12 if big else 8)
            size = struct.calcsize(f"={FIELD_FORMATS[kind]}") * length
            if size > (8 if big else 4):
                (place,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", content, place)
            if place + size > len(content):
                continue
            tags[tag] = struct.unpack_from(f"{order}{FIELD_FORMATS[kind] * length}", content, place)
            raw[tag] = (kind, length, content[place : place + size])
    except struct.error:
        return None
    if not (tags.get(WIDTH) and tags.get(HEIGHT) and (tags.get(STRIPS) or tags.get(TILES))):
        return None
    return Tiff(order, tags, raw)


def without_metadata(content: bytes, tiff: Tiff) -> bytes:
    """Return the file with a list of only those tags that pixels depend on."""
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
    tag_list = struct.pack(f"{tiff.order}H", len(entries)) + b"".join(entries) + bytes(4)
    return head + content[8:] + tag_list + more
