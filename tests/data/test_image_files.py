"""Every kind of image file that a person may have, and what is no image."""

import errno
import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfal.data import image_files, image_metadata
from dfal.data.image_files import PixelBudget, Unavailable, decoded, fitted, header
from orientations import as_oriented

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
GREY = Image.fromarray(RNG.integers(0, 256, (20, 30), dtype=np.uint8))
SMOOTH = Image.fromarray(np.linspace(0, 255, 20 * 30 * 3).astype(np.uint8).reshape(20, 30, 3))


def saved(path: Path, image: Image.Image, name: str = "one.png", **options: Any) -> Path:
    image.save(path / name, **options)
    return path / name


def pixels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(image)


@pytest.mark.parametrize("name", ["one.png", "one.tiff", "one.tif"])
@pytest.mark.parametrize("image", [COLOUR, GREY], ids=["colour", "grey"])
def test_lossless_images_come_through_untouched(
    tmp_path: Path, name: str, image: Image.Image
) -> None:
    assert np.array_equal(pixels(decoded(saved(tmp_path, image, name))), pixels(image))


def test_lossless_webp_and_gif_come_through_untouched(tmp_path: Path) -> None:
    assert np.array_equal(
        pixels(decoded(saved(tmp_path, COLOUR, "one.webp", lossless=True))), pixels(COLOUR)
    )
    few = GREY.quantize(16)
    assert np.array_equal(
        pixels(decoded(saved(tmp_path, few, "one.gif"))), pixels(few.convert("RGB"))
    )


def test_jpeg_in_colour_grey_and_cmyk(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "CMYK"):
        path = saved(tmp_path, SMOOTH.convert(mode), "one.jpg", quality=95)
        found = decoded(path)
        assert found.mode == ("L" if mode == "L" else "RGB")
        wanted = SMOOTH.convert("L") if mode == "L" else SMOOTH
        assert np.abs(pixels(found).astype(int) - pixels(wanted)).mean() < 3


def test_a_name_may_lie_about_the_kind(tmp_path: Path) -> None:
    saved(tmp_path, COLOUR).rename(tmp_path / "one.jpg")
    assert np.array_equal(pixels(decoded(tmp_path / "one.jpg")), pixels(COLOUR))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_data_say(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = pixels(COLOUR)
    turned = as_oriented(upright, orientation)
    assert np.array_equal(pixels(decoded(saved(tmp_path, COLOUR, exif=exif))), turned)


def test_palettes_and_one_bit_images(tmp_path: Path) -> None:
    few = COLOUR.quantize(7)
    assert np.array_equal(pixels(decoded(saved(tmp_path, few))), pixels(few.convert("RGB")))
    bits = GREY.point(lambda value: 255 * (value > 99)).convert("1")
    found = decoded(saved(tmp_path, bits))
    assert found.mode == "L"
    assert np.array_equal(pixels(found), pixels(bits) * np.uint8(255))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_shown_on_white(tmp_path: Path, mode: str) -> None:
    wanted: Any
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 1, 2, 3])
        image.putdata([0, 1])
        path = saved(tmp_path, image, transparency=1)
        wanted = [[10, 20, 30], [255, 255, 255]]
    elif mode == "LA":
        image = Image.new("LA", (3, 1))
        image.putdata([(0, 255), (0, 0), (0, 51)])
        path, wanted = saved(tmp_path, image), [0, 255, 204]
    else:
        image = Image.new("RGBA", (3, 1))
        image.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 255, 51)])
        path, wanted = saved(tmp_path, image), [[10, 20, 30], [255, 255, 255], [204, 204, 255]]
    assert pixels(decoded(path))[0].tolist() == wanted


@pytest.mark.parametrize("name", ["one.png", "one.tif"])
def test_sixteen_bits_are_scaled_by_their_whole_range(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(np.array([[0, 257, 257 * 128, 65535, 4095]], np.uint16))
    assert pixels(decoded(saved(tmp_path, image, name))).tolist() == [[0, 1, 128, 255, 16]]
    dark = Image.fromarray(np.array([[0, 257, 4095]], np.uint16))
    assert pixels(decoded(saved(tmp_path, dark, name))).tolist() == [[0, 1, 16]]


def test_floating_point_images_are_understood_from_0_to_1(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 0.2, 1]], np.float32)), "one.tif")
    assert pixels(decoded(path)).tolist() == [[0, 51, 255]]
    for bad in (np.nan, -0.1, 7):
        path = saved(tmp_path, Image.fromarray(np.array([[0, bad, 1]], np.float32)), "one.tif")
        with pytest.raises(ValueError, match="0 to 1 is understood"):
            decoded(path)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("one.gif", "one.webp", "one.tif"):
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
        assert np.abs(pixels(decoded(path))[0, 0].astype(int) - [255, 0, 0]).max() < 8, name


def test_a_large_jpeg_is_decoded_small_but_looks_the_same(tmp_path: Path) -> None:
    wide = Image.fromarray(np.tile(np.linspace(0, 255, 1600).astype(np.uint8), (1200, 1)))
    path = saved(tmp_path, wide, "one.jpg", quality=95)
    assert decoded(path, least=64).size[0] < 1600
    assert min(decoded(path, least=500).size) >= 500
    whole = wide.resize((32, 24), Image.Resampling.BOX)
    assert np.abs(fitted(path, (32, 32), 1)[4:28, :, 0].astype(int) - pixels(whole)).max() < 10


def test_an_image_of_the_networks_size_comes_through_untouched(tmp_path: Path) -> None:
    square = COLOUR.crop((0, 0, 16, 16))
    assert np.array_equal(fitted(saved(tmp_path, square), (16, 16), 3), pixels(square))
    assert np.array_equal(
        fitted(saved(tmp_path, square), (16, 16), 1)[..., 0], pixels(square.convert("L"))
    )
    grey = GREY.crop((0, 0, 16, 16))
    assert np.array_equal(fitted(saved(tmp_path, grey), (16, 16), 3), pixels(grey.convert("RGB")))


@pytest.mark.parametrize(
    ("width", "height"), [(40, 20), (20, 40), (12, 6), (5, 1000), (1000, 5), (1, 1)]
)
def test_all_of_an_image_is_there_in_its_shape_and_the_rest_has_the_colour_of_its_border(
    tmp_path: Path, width: int, height: int
) -> None:
    image = np.full((height, width, 3), (200, 210, 220), np.uint8)
    image[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None] = (10, 0, 0)
    found = fitted(saved(tmp_path, Image.fromarray(image)), (20, 20), 3)
    assert found.shape == (20, 20, 3)
    if min(width, height) > 1:
        corners = found[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        assert (np.abs(corners - [200, 210, 220]) < 16).all()  # shrinking blurs a little
    inside = found[..., 0] < 105
    if min(width, height) in (6, 20):
        middle = np.argwhere(inside)
        assert np.abs(middle.mean(0) - 9.5).max() <= 1  # in the middle
        spans = middle.max(0) - middle.min(0) + 1
        assert abs(spans[1] / spans[0] - width / height) < 0.7  # not squeezed


def test_a_network_may_want_another_shape_than_a_square(tmp_path: Path) -> None:
    path = saved(tmp_path, COLOUR)
    assert np.array_equal(fitted(path, (20, 30), 3), pixels(COLOUR))
    assert fitted(path, (10, 40), 3).shape == (10, 40, 3)
    wide = fitted(path, (20, 50), 3)
    assert np.array_equal(wide[:, 10:40], pixels(COLOUR))
    assert (wide[:, :10] == wide[0, 0]).all()


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few kilobytes that says that it is side × side."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path / "bomb.png"


@pytest.mark.parametrize("side", [13_342, 50_000])
def test_decompression_bombs_are_refused_with_a_sentence(tmp_path: Path, side: int) -> None:
    assert side**2 > image_files.MAX_PIXELS
    with pytest.raises(ValueError, match="more than 178 million pixels: make it smaller"):
        decoded(bomb(tmp_path, side))


@pytest.mark.filterwarnings(
    "ignore::PIL.Image.DecompressionBombWarning"
)  # as it is outside of the tests
def test_a_large_image_is_no_bomb_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, COLOUR)
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 400
    )  # Pillow warns from there on, and refuses twice as many
    assert decoded(path).size == COLOUR.size
    monkeypatch.setattr(image_files, "MAX_PIXELS", 599)
    with pytest.raises(ValueError, match="make it smaller"):
        decoded(path)


@pytest.mark.parametrize(
    "kind", ["empty", "text", "cut off", "damaged", "a folder", "not there", "another format"]
)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp", ".gif"])
def test_what_cannot_be_read_has_a_reason_in_one_line(
    tmp_path: Path, kind: str, ending: str
) -> None:
    path = tmp_path / f"one{ending}"
    good = bytearray(saved(tmp_path, COLOUR.resize((300, 200)), f"good{ending}").read_bytes())
    if kind == "a folder":
        path.mkdir()
    elif kind == "another format":
        COLOUR.save(path, format="BMP")
    elif kind != "not there":
        middle = len(good) // 2
        damaged = bytes(good[: middle // 8]) + bytes(middle)
        path.write_bytes(
            {"empty": b"", "text": b"hello", "cut off": bytes(good[:middle])}.get(kind, damaged)
        )
    with pytest.raises(ValueError, match=r"^(it|its|there) ") as raised:
        decoded(path)
    assert "\n" not in str(raised.value)


def test_headers_are_read_without_decoding(tmp_path: Path) -> None:
    assert header(saved(tmp_path, GREY)) == ((30, 20), "L")
    assert header(bomb(tmp_path, 5000)) == ((5000, 5000), "RGB")
    assert header(tmp_path / "nothing.png") is None


def exif(turn: int, *, broken: bytes = b"", order: str = "<") -> bytes:
    """EXIF data with an orientation, and behind it a field of which type, count and value are as
    broken as wanted."""
    broken = broken or struct.pack(f"{order}HHII", 0x8769, 4, 1, 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark
        + struct.pack(f"{order}IH", 8, 2)
        + struct.pack(f"{order}HHIHH", 0x0112, 3, 1, turn, 0)
        + broken
        + bytes(4)
    )


BROKEN = {
    "the width as text": struct.pack("<HHI4s", 0xA002, 2, 1, b"x"),
    "the width as a fraction by zero": struct.pack("<HHII", 0xA002, 5, 1, 0),
    "behind the end": struct.pack("<HHII", 0x010F, 2, 5000, 60000),
    "of a type that is none": struct.pack("<HHII", 0x0110, 77, 1, 0),
    "endless": struct.pack("<HHII", 0x9286, 7, 2**32 - 1, 8),
    "a list in itself": struct.pack("<HHII", 0x8769, 4, 1, 8),
    "a list far away": struct.pack("<HHII", 0x8825, 4, 1, 2**31),
    "turned twice": struct.pack("<HHIHH", 0x0112, 2, 1, 9, 9),
}


def png_chunk(kind: bytes, body: bytes, *, sum: int | None = None) -> bytes:
    check = zlib.crc32(kind + body) if sum is None else sum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def with_chunk(content: bytes, chunk: bytes, *, last: bool = False) -> bytes:
    """A PNG with one more chunk, before its pixels or behind them."""
    at = content.index(b"IEND") - 4 if last else content.index(b"IDAT") - 4
    return content[:at] + chunk + content[at:]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as it is outside of the tests
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_broken_field_of_exif_costs_neither_the_image_nor_its_orientation(
    tmp_path: Path, ending: str, broken: str
) -> None:
    block = exif(6, broken=BROKEN[broken])
    kinds: dict[str, dict[str, Any]] = {
        "jpg": {"quality": 95},
        "png": {},
        "webp": {"lossless": True},
    }
    options = kinds[ending]
    path = saved(tmp_path, SMOOTH, f"one.{ending}", exif=b"Exif\0\0" + block, **options)
    plain = decoded(saved(tmp_path, SMOOTH, f"plain.{ending}", **options))
    assert np.array_equal(pixels(decoded(path)), np.rot90(pixels(plain), -1))
    assert fitted(path, (30, 20), 3).shape == (30, 20, 3)
    assert header(path) is not None


PNG_CHUNKS = {
    "a comment of 3 MB": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
    "a comment of 3 MB in Unicode": png_chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))
    ),
    "a profile of 3 MB": png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000))),
    "a profile that is none": png_chunk(b"iCCP", b"icc\0\0hello"),
    "a comment that is cut off": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(999))[:9]),
    "a comment with a wrong sum": png_chunk(b"tEXt", b"Comment\0hello", sum=1),
    "a comment in a way that is not known": png_chunk(b"zTXt", b"Comment\0\7hello"),
    "an empty size in inches": png_chunk(b"pHYs", b""),
    "an empty gamma": png_chunk(b"gAMA", b""),
    "transparency that does not fit": png_chunk(b"tRNS", b"\0"),
    "an animation without frames": png_chunk(b"acTL", b"\0\0"),
    "an animation of frames that are missing": (
        png_chunk(b"acTL", struct.pack(">II", 5, 0)) + png_chunk(b"fcTL", b"\0" * 4)
    ),
    "XMP that is cut off": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("what", PNG_CHUNKS)
def test_a_broken_part_of_a_png_beside_its_pixels_costs_nothing(
    tmp_path: Path, what: str, last: bool
) -> None:
    for image in (COLOUR, GREY, COLOUR.quantize(9)):
        path = saved(tmp_path, image)
        path.write_bytes(with_chunk(path.read_bytes(), PNG_CHUNKS[what], last=last))
        wanted = (
            image
            if image.mode != "P" or (what.startswith("transparency") and not last)
            else image.convert("RGB")
        )
        if not (
            image.mode == "P" and what.startswith("transparency")
        ):  # one colour of a palette may be transparent
            assert np.array_equal(pixels(decoded(path)), pixels(wanted)), image.mode
        assert header(path) is not None


def segment(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2 if length is None else length) + body


SEGMENTS = {
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "EXIF that is cut off": segment(0xE1, b"Exif\0\0" + exif(1)[:15]),
    "XMP that is cut off": segment(
        0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="
    ),
    "a profile that is none": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile in parts that are missing": segment(0xE2, b"ICC_PROFILE\0\x02\x09hello"),
    "pictures that are not there": segment(
        0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\0\xb0\4\0\xff\xff\xff\xff\0\0\0\0"
    ),
    "Photoshop's part, cut off": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\xff"),
    "JFIF that is cut off": segment(0xE0, b"JFIF\0\1"),
    "a comment that is no text": segment(0xFE, b"\xff\xfe\0"),
    "a length of zero": segment(0xE5, b"", length=0),
    "bytes between": segment(0xE5, b"hello") + b"hello",
    "an unknown part": segment(0xEF, b"\0" * 40),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("what", SEGMENTS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_broken_part_of_a_jpeg_beside_its_pixels_costs_nothing(
    tmp_path: Path, what: str, mode: str
) -> None:
    path = saved(tmp_path, SMOOTH.convert(mode), "one.jpg")
    wanted = pixels(decoded(path))
    content = path.read_bytes()
    first = content.index(b"\xff\xdb")  # behind the JFIF and Adobe parts
    for turn in (b"", segment(0xE1, b"Exif\0\0" + exif(8))):
        path.write_bytes(content[:first] + SEGMENTS[what] + turn + content[first:])
        found = pixels(decoded(path))
        # Where two EXIF parts are there, the first may be the one that is read, and says nothing.
        assert np.array_equal(
            found, np.rot90(wanted) if turn and not what.startswith("EXIF") else found
        )
        assert found.shape[:2] == wanted.shape[:2] or turn
        assert fitted(path, (8, 8), 3).any()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "what", ["a comment", "an application", "a text", "a comment that is cut off"]
)
def test_a_broken_part_of_a_gif_beside_its_pixels_costs_nothing(tmp_path: Path, what: str) -> None:
    few = GREY.quantize(16)
    path = saved(tmp_path, few, "one.gif")
    wanted, content = pixels(decoded(path)), path.read_bytes()
    part = {
        "a comment": b"\x21\xfe\x05\xff\xfe\0\1\2\0",
        "an application": b"\x21\xff\x0bNETSCAPE2.0\x01\0\0",
        "a text": b"\x21\x01\x01\0\0",
        "a comment that is cut off": b"",
    }[what]
    at = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    end = b"\x21\xfe\xffhel" if not part else b""
    path.write_bytes(content[:at] + part + content[at:-1] + end)
    assert np.array_equal(pixels(decoded(path)), wanted)


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ICCP"])
@pytest.mark.parametrize("body", [b"", b"hello", bytes(3)])
def test_a_broken_part_of_a_webp_beside_its_pixels_costs_nothing(
    tmp_path: Path, kind: bytes, body: bytes
) -> None:
    path = saved(tmp_path, COLOUR, "one.webp", lossless=True, exif=b"Exif\0\0" + exif(1))
    content = path.read_bytes()
    part = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    content = content[:20] + b"\x2c" + content[21:] + part  # it says that all three are there
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    assert np.array_equal(pixels(decoded(path)), pixels(COLOUR))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".webp"])
def test_without_its_metadata_an_image_is_the_same(tmp_path: Path, ending: str) -> None:
    path = saved(
        tmp_path, COLOUR.quantize(9) if ending in {".png", ".gif"} else COLOUR, f"one{ending}"
    )
    plain = image_metadata.without_metadata(path.read_bytes())
    assert plain is not None
    with Image.open(io.BytesIO(plain)) as image:
        assert np.array_equal(pixels(image.convert("RGB")), pixels(decoded(path)))
    assert image_metadata.without_metadata(b"hello") is None


@pytest.mark.parametrize(
    ("error", "general"),
    [
        *(
            (OSError(number, "just now"), True)
            for number in (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOENT, errno.ETIMEDOUT)
        ),
        *((OSError(number, "just now"), False) for number in (errno.EIO, errno.EACCES)),
        (OSError(errno.ENOMEM, "no memory"), False),
        (MemoryError(), False),
    ],
)
def test_what_the_system_says_is_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, general: bool
) -> None:
    path = saved(tmp_path, COLOUR)

    def fail(*_: Any) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(Unavailable, match=r"^it cannot be read just now \(") as raised:
            decoded(path)
        assert raised.value.general is general
    if isinstance(error, MemoryError):  # Pillow and NumPy say it in their own ways
        for late in (error, OSError("out of memory error when reading image file")):
            with monkeypatch.context() as patch:
                error = late
                patch.setattr("PIL.ImageFile.ImageFile.load", fail)
                with pytest.raises(Unavailable) as raised:
                    decoded(path)
                assert raised.value.memory
    assert decoded(path).size == COLOUR.size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("turn", [1, 6])
def test_large_images_are_put_on_white_and_shrunk_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, turn: int
) -> None:
    rng = np.random.default_rng(3)
    image: Image.Image = Image.fromarray(
        rng.integers(0, 256, (211, 173, 4), dtype=np.uint8), "RGBA"
    )
    options: dict[str, Any] = {}
    if mode == "P":
        image, options = image.convert("RGB").quantize(30), {"transparency": 3}
    elif mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (211, 173), dtype=np.uint16))
    else:
        image = image.convert(mode) if mode != "CMYK" else image.convert("RGB").convert("CMYK")
    name = "one.tif" if mode == "CMYK" else "one.png"
    tags = Image.Exif()
    tags[0x0112] = turn
    path = saved(tmp_path, image, name, exif=tags, **options)
    at_once = {size: fitted(path, size, 3) for size in ((10, 10), (20, 31), (300, 300))}
    whole = pixels(decoded(path))
    monkeypatch.setattr(image_files, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(image_files, "BAND_PIXELS", 3000)
    assert np.array_equal(pixels(decoded(path)), whole)
    for size, wanted in at_once.items():
        difference = np.abs(fitted(path, size, 3).astype(int) - wanted)
        assert difference.max() <= (0 if turn == 1 else 12), size
        assert difference.mean() < 2
    small = decoded(path, longest=20)
    assert 20 <= max(small.size) <= 80
    shape = whole.shape
    assert abs(small.height / small.width - shape[0] / shape[1]) < 0.1


def test_large_images_wait_for_each_other() -> None:
    """Three large ones and a small one: never more than the budget at a time, and the small one
    goes by."""
    budget = PixelBudget(10 * image_files.BAND_PIXELS)
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    now, most = [0], [0]
    guard = threading.Lock()

    def work(pixels: int) -> None:
        with budget.hold(pixels):
            with guard:
                now[0] += min(pixels, 10 * image_files.BAND_PIXELS)
                most[0] = max(most[0], now[0])
            begun.release()
            assert go_on.acquire(timeout=60)
            with guard:
                now[0] -= min(pixels, 10 * image_files.BAND_PIXELS)

    sizes = [
        99 * image_files.BAND_PIXELS,
        6 * image_files.BAND_PIXELS,
        6 * image_files.BAND_PIXELS,
        4 * image_files.BAND_PIXELS,
    ]
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=60)
    small = threading.Thread(target=work, args=(image_files.BAND_PIXELS,))
    small.start()
    assert begun.acquire(timeout=60)  # beside the one that runs, whichever it is
    for _ in range(5):
        go_on.release()
    for thread in (*threads, small):
        thread.join(60)
        assert not thread.is_alive()
    assert most[0] <= 11 * image_files.BAND_PIXELS
    assert budget._taken == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_the_orientation_is_kept_where_other_metadata_are_damaged(
    tmp_path: Path, kind: int, order: str
) -> None:
    value = {
        1: struct.pack("B3x", 6),
        3: struct.pack(f"{order}HH", 6, 0),
        4: struct.pack(f"{order}I", 6),
    }[kind]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    block = mark + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    path = saved(tmp_path, COLOUR)
    content = with_chunk(path.read_bytes(), PNG_CHUNKS["a comment of 3 MB"])
    path.write_bytes(with_chunk(content, png_chunk(b"eXIf", block)))
    assert np.array_equal(pixels(decoded(path)), np.rot90(pixels(COLOUR), -1))
    assert image_metadata.orientation(path.read_bytes()) == 6


def test_a_long_image_is_shrunk_in_bands_by_two_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(
        tmp_path,
        Image.fromarray(
            np.random.default_rng(4).integers(0, 256, (4000, 60, 4), dtype=np.uint8), "RGBA"
        ),
    )
    whole = fitted(path, (10, 10), 3)
    monkeypatch.setattr(image_files, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(image_files, "BAND_PIXELS", 20_000)
    assert np.array_equal(fitted(path, (10, 10), 3), whole)
