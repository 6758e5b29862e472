"""Every kind of image file that a person may have, and what is no image."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfal import pictures
from dfal.pictures import decoded, fitted, header

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
def test_lossless_images_come_through_untouched(tmp_path: Path, name: str, image: Image.Image) -> None:
    assert np.array_equal(pixels(decoded(saved(tmp_path, image, name))), pixels(image))


def test_lossless_webp_and_gif_come_through_untouched(tmp_path: Path) -> None:
    assert np.array_equal(pixels(decoded(saved(tmp_path, COLOUR, "one.webp", lossless=True))), pixels(COLOUR))
    few = GREY.quantize(16)
    assert np.array_equal(pixels(decoded(saved(tmp_path, few, "one.gif"))), pixels(few.convert("RGB")))


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
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright),
    }[orientation]
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
    assert np.array_equal(fitted(saved(tmp_path, square), (16, 16), 1)[..., 0], pixels(square.convert("L")))
    grey = GREY.crop((0, 0, 16, 16))
    assert np.array_equal(fitted(saved(tmp_path, grey), (16, 16), 3), pixels(grey.convert("RGB")))


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (12, 6), (5, 1000), (1000, 5), (1, 1)])
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
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path / "bomb.png"


@pytest.mark.parametrize("side", [13_342, 50_000])
def test_decompression_bombs_are_refused_with_a_sentence(tmp_path: Path, side: int) -> None:
    assert side**2 > pictures.MOST
    with pytest.raises(ValueError, match="more than 178 million pixels: make it smaller"):
        decoded(bomb(tmp_path, side))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as it is outside of the tests
def test_a_large_image_is_no_bomb_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # Pillow warns from there on, and refuses twice as many
    assert decoded(path).size == COLOUR.size
    monkeypatch.setattr(pictures, "MOST", 599)
    with pytest.raises(ValueError, match="make it smaller"):
        decoded(path)


@pytest.mark.parametrize("kind", ["empty", "text", "cut off", "damaged", "a folder", "not there", "another format"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp", ".gif"])
def test_what_cannot_be_read_has_a_reason_in_one_line(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"one{ending}"
    good = bytearray(saved(tmp_path, COLOUR.resize((300, 200)), f"good{ending}").read_bytes())
    if kind == "a folder":
        path.mkdir()
    elif kind == "another format":
        COLOUR.save(path, format="BMP")
    elif kind != "not there":
        middle = len(good) // 2
        damaged = bytes(good[: middle // 8]) + bytes(middle)
        path.write_bytes({"empty": b"", "text": b"hello", "cut off": bytes(good[:middle])}.get(kind, damaged))
    with pytest.raises(ValueError, match=r"^(it|its|there) ") as raised:
        decoded(path)
    assert "\n" not in str(raised.value)


def test_headers_are_read_without_decoding(tmp_path: Path) -> None:
    assert header(saved(tmp_path, GREY)) == ((30, 20), "L")
    assert header(bomb(tmp_path, 5000)) == ((5000, 5000), "RGB")
    assert header(tmp_path / "nothing.png") is None
