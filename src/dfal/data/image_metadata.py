"""Image files without their metadata: comments, profiles, EXIF and XMP data.

Where they are damaged, decoders refuse images whose pixels are good.
"""

import re
import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says how an image is turned."""


def without_metadata(content: bytes) -> bytes | None:
    """Return the file with nothing but what its pixels need; None for another kind of file."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _plain_jpeg(content)
        if content.startswith(PNG):
            return _plain_png(content)
        if content.startswith((b"GIF87a", b"GIF89a")):
            return _plain_gif(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _plain_webp(content)
    except (struct.error, IndexError):
        pass
    return None


def orientation(content: bytes) -> int:
    """Return the orientation of an image by its EXIF data, 1 to 8; 1 without readable data."""
    for exif in _exif(content):
        value = _orientation(exif.removeprefix(b"Exif\0\0"))
        if value is not None:
            return value
    return 1


def _exif(content: bytes) -> Iterator[bytes]:
    try:
        if content.startswith(b"\xff\xd8"):
            yield from (
                body
                for kind, body in _jpeg_segments(content)
                if kind == 0xE1 and body.startswith(b"Exif\0\0")
            )
        elif content.startswith(PNG):
            yield from (
                content[start + 8 : end - 4]
                for kind, start, end in _png_chunks(content)
                if kind == b"eXIf"
            )
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            yield from (body for kind, _, body in _webp_chunks(content) if kind == b"EXIF")
    except (struct.error, IndexError):
        return


def _orientation(exif: bytes) -> int | None:
    """Return the orientation in a block of EXIF data, whose other fields may be damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == ORIENTATION:
                form = {1: "B", 3: "H", 4: "I"}.get(kind)
                value = struct.unpack_from(f"{order}{form}", exif, at + 8)[0] if form else 0
                return int(value) if 1 <= value <= 8 else None
    except struct.error:
        pass
    return None


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and body of each segment; the last is all from the pixels on."""
    at = 2
    while at < len(content):
        if content[at] != 0xFF:
            # The length before was wrong: go to the next marker, as other decoders do.
            at = content.find(b"\xff", at)
            if at < 0:
                return
            continue
        kind = content[at + 1]
        if kind in {0x00, 0xFF} or 0xD0 <= kind <= 0xD8 or kind == 0x01:
            at += 1 if kind == 0xFF else 2
            continue
        if kind == 0xD9:
            return
        (length,) = struct.unpack_from(">H", content, at + 2)
        if kind == 0xDA:
            yield kind, content[at:]
            return
        yield kind, content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _plain_jpeg(content: bytes) -> bytes:
    """Remove what applications have written, except what says which colours there are."""
    parts = [b"\xff\xd8"]
    for kind, body in _jpeg_segments(content):
        if kind == 0xDA:
            parts.append(body)
        elif not (0xE1 <= kind <= 0xED or kind in {0xEF, 0xFE}) and (
            kind != 0xE0 or (body.startswith(b"JFIF\0") and len(body) >= 14)
        ):
            parts.append(b"\xff" + bytes([kind]) + struct.pack(">H", len(body) + 2) + body)
    return b"".join(parts)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, beginning and end of each chunk."""
    at = len(PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if not re.fullmatch(rb"[A-Za-z]{4}", kind):
            return
        yield kind, at, at + 12 + length
        at += 12 + length


def _plain_png(content: bytes) -> bytes:
    """Keep the critical chunks, and the transparency where it fits the pixels."""
    fitting = {0: 2, 2: 6}.get(content[25])
    parts = [PNG]
    for kind, start, end in _png_chunks(content):
        size = end - start - 12
        transparent = kind == b"tRNS" and (
            size == fitting or (content[25] == 3 and 1 <= size <= 256)
        )
        if kind[:1].isupper():
            parts.append(content[start:end])
        elif transparent:
            body = content[start + 4 : end - 4]
            parts.append(content[start : start + 4] + body + struct.pack(">I", zlib.crc32(body)))
    return b"".join(parts)


def _plain_gif(content: bytes) -> bytes:
    """Keep the first frame, and what says which of its colours is transparent.

    Raises:
        IndexError: where the file is cut off or damaged.
    """

    def after_blocks(at: int) -> int:
        while content[at]:
            at += content[at] + 1
        return at + 1

    def palette(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    at = 13 + palette(content[10])
    parts = [content[:at]]
    while content[at] != 0x2C:
        if content[at] != 0x21:
            raise IndexError
        end = after_blocks(at + 2)
        if content[at + 1] == 0xF9:
            parts.append(content[at:end])
        at = end
    end = after_blocks(at + 10 + palette(content[at + 9]) + 1)
    return b"".join([*parts, content[at:end], b"\x3b"])


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the kind, length and body of each chunk; the last may be cut off."""
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        yield kind, length, content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _plain_webp(content: bytes) -> bytes:
    """Keep the chunks of pixels, transparency and animation.

    Raises:
        IndexError: where pixels are missing.
    """
    parts = []
    for kind, length, body in _webp_chunks(content):
        if kind == b"VP8X":
            body = bytes([body[0] & ~0x2C]) + body[1:]  # noqa: PLW2901  no profile, EXIF or XMP data follow
        if kind in {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}:
            if len(body) < length:
                raise IndexError  # what is missing are pixels
            parts.append(struct.pack("<4sI", kind, len(body)) + body + b"\0" * (len(body) % 2))
    whole = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole
