"""TIFF files of every depth, colour and layout, written here byte by byte, against what their
pixels are."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfal.data import image_files
from dfal.data.image_files import decoded, fitted, header
from orientations import as_oriented

Array = np.ndarray[Any, np.dtype[Any]]


def packed(samples: Array, bits: int, order: str) -> bytes:
    """Rows of samples as bytes; each row begins with a byte of its own."""
    if samples.dtype.kind == "f" or bits in {8, 16, 32}:
        return samples.astype(f"{order}{samples.dtype.str[1:]}").tobytes()
    rows = samples.astype(np.uint32).reshape(len(samples), -1)
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    path: Path,
    samples: Array,
    bits: int,
    kind: int = 1,
    *,
    order: str = "<",
    planar: bool = False,
    tile: int = 0,
    rows: int = 0,
    compress: bool = False,
    big: bool = False,
    **more: list[int],
) -> Path:
    """Write a TIFF. `more` are tags by their numbers, as t338=[2]."""
    height, width, count = samples.shape
    planes = [samples[..., [at]] for at in range(count)] if planar else [samples]
    parts: list[bytes] = []
    for plane in planes:
        if tile:
            wide, tall = -(-width // tile) * tile, -(-height // tile) * tile
            padded = np.zeros((tall, wide, plane.shape[2]), plane.dtype)
            padded[:height, :width] = plane
            parts += [
                packed(padded[y : y + tile, x : x + tile], bits, order)
                for y in range(0, tall, tile)
                for x in range(0, wide, tile)
            ]
        else:
            step = rows or height
            parts += [packed(plane[y : y + step], bits, order) for y in range(0, height, step)]
    return write(
        path,
        parts,
        (width, height, count),
        bits,
        kind,
        order,
        planar,
        tile,
        rows,
        compress,
        big,
        more,
    )


def write(
    path: Path,
    parts: list[bytes],
    size: tuple[int, int, int],
    bits: int,
    kind: int,
    order: str = "<",
    planar: bool = False,
    tile: int = 0,
    rows: int = 0,
    compress: bool = False,
    big: bool = False,
    more: dict[str, list[int]] | None = None,
) -> Path:
    width, height, count = size
    if compress:
        parts = [zlib.compress(part) for part in parts]
    start = 16 if big else 8
    places = [start + sum(map(len, parts[:at])) for at in range(len(parts))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * count),
        259: ("H", [8 if compress else 1]),
        262: ("H", [kind]),
        277: ("H", [count]),
        284: ("H", [2 if planar else 1]),
    }
    if tile:
        tags |= {322: ("I", [tile]), 323: ("I", [tile])}
    else:
        tags[278] = ("I", [rows or height])
    tags[324 if tile else 273] = ("Q" if big else "I", places)
    tags[325 if tile else 279] = ("Q" if big else "I", [len(part) for part in parts])
    tags |= {int(name[1:]): ("H", values) for name, values in (more or {}).items()}
    kinds = {"H": 3, "I": 4, "Q": 16}
    word, inline = ("Q", 8) if big else ("I", 4)
    end = start + sum(map(len, parts))
    after = end + (8 if big else 2) + len(tags) * (20 if big else 12) + inline
    listed, values = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags)), b""
    for tag, (form, numbers) in sorted(tags.items()):
        body = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        listed += struct.pack(f"{order}HH{word}", tag, kinds[form], len(numbers))
        if len(body) <= inline:
            listed += body.ljust(inline, b"\0")
        else:
            listed += struct.pack(f"{order}{word}", after + len(values))
            values += body
    mark = b"II" if order == "<" else b"MM"
    head = (
        struct.pack(f"{order}2sHHHQ", mark, 43, 8, 0, end)
        if big
        else struct.pack(f"{order}2sHI", mark, 42, end)
    )
    path.write_bytes(head + b"".join(parts) + listed + bytes(inline) + values)
    return path


def ramp(bits: int, count: int = 1, height: int = 5, width: int = 21, seed: int = 0) -> Array:
    """Samples of every size, black and white among them."""
    top = 2**bits - 1
    form = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    samples = (
        np.random.default_rng(seed)
        .integers(0, top, (height, width, count), endpoint=True)
        .astype(form)
    )
    samples[0, 0], samples[-1, -1] = 0, top
    return samples


def eight(samples: Array, top: float) -> Array:
    return np.round(samples.astype(np.float64) * 255 / top).astype(np.uint8)


def close(path: Path, wanted: Array, within: int = 0) -> None:
    found = np.asarray(decoded(path))
    wanted = wanted[..., 0] if wanted.shape[2] == 1 else wanted
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= within


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("kind", [0, 1])
def test_grey_of_every_depth_has_its_brightness(
    tmp_path: Path, bits: int, kind: int, order: str
) -> None:
    samples = ramp(bits)
    shown = eight(samples, 2**bits - 1)
    close(
        tiff(tmp_path / "a.tif", samples, bits, kind, order=order),
        255 - shown if kind == 0 else shown,
    )


@pytest.mark.parametrize(
    "layout",
    ["strips", "tiles", "planes", "planes in tiles", "compressed", "compressed tiles", "big"],
)
@pytest.mark.parametrize(("bits", "within"), [(4, 0), (8, 0), (12, 0), (16, 1)])
def test_colours_of_every_depth_and_layout(
    tmp_path: Path, bits: int, within: int, layout: str
) -> None:
    samples = ramp(bits, 3, height=37, width=41)
    path = tiff(
        tmp_path / "a.tif",
        samples,
        bits,
        2,
        planar="planes" in layout,
        tile=16 if "tiles" in layout else 0,
        rows=7 if layout == "strips" else 0,
        compress="compressed" in layout,
        big=layout == "big",
    )
    close(path, eight(samples, 2**bits - 1), within)  # Pillow cuts 16 bits of colour off after 8
    assert header(path) == ((41, 37), "RGB")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["f2", "f4", "f8"])
@pytest.mark.parametrize(("kind", "count"), [(0, 1), (1, 1), (2, 3)])
def test_floating_point_of_every_depth(
    tmp_path: Path, form: str, kind: int, count: int, order: str
) -> None:
    samples = (ramp(8, count) / 255).astype(form)
    shown = eight(samples, 1)
    path = tiff(
        tmp_path / "a.tif", samples, 8 * samples.dtype.itemsize, kind, order=order, t339=[3]
    )
    close(path, 255 - shown if kind == 0 else shown)


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (12, 2047), (16, 32767), (32, 65535)])
def test_signed_numbers_are_understood_from_0_up(tmp_path: Path, bits: int, top: int) -> None:
    form = {8: np.int8, 12: np.int16, 16: np.int16, 32: np.int32}[bits]
    samples = np.array([0, top // 2, top]).astype(form).reshape(1, 3, 1)
    close(tiff(tmp_path / "a.tif", samples, bits, t339=[2]), eight(samples, top))
    samples[0, 0] = -5
    with pytest.raises(
        ValueError, match=f"its pixels lie between -5 and {top}, but 0 to {top} is understood"
    ):
        decoded(tiff(tmp_path / "a.tif", samples, bits, t339=[2]))


def test_counts_of_32_bits_are_those_of_16_or_refused_with_the_true_reason(tmp_path: Path) -> None:
    samples = np.array([0, 257, 65535], np.uint32).reshape(1, 3, 1)
    close(tiff(tmp_path / "a.tif", samples, 32), eight(samples, 65535))
    samples[0, 2] = 2**32 - 1
    with pytest.raises(
        ValueError,
        match=r"its pixels lie between 0 and 4\.29497e\+09, but 0 to 65535 is understood",
    ):
        decoded(tiff(tmp_path / "a.tif", samples, 32))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palettes_of_every_depth(tmp_path: Path, bits: int) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2**bits, 3))
    samples = ramp(bits)
    path = tiff(tmp_path / "a.tif", samples, bits, 3, t320=(colours.T * 257).ravel().tolist())
    close(path, colours[samples[..., 0]])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_inks(tmp_path: Path, bits: int, planar: bool) -> None:
    top = 2**bits - 1
    inks = np.array([[0, 0, 0, 0], [top, 0, 0, 0], [0, top, 0, 0], [0, 0, 0, top]], f"u{bits // 8}")
    path = tiff(tmp_path / "a.tif", inks.reshape(1, 4, 4), bits, 5, planar=planar)
    close(path, np.array([[[255, 255, 255], [0, 255, 255], [255, 0, 255], [0, 0, 0]]]))


@pytest.mark.parametrize(("h", "v"), [(1, 1), (2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("compress", [False, True])
def test_brightness_and_colours_in_blocks(tmp_path: Path, h: int, v: int, compress: bool) -> None:
    """Blocks of one colour each, the last of them cut off at the border."""
    width, height = 9, 7
    rng = np.random.default_rng(2)
    bright = rng.integers(40, 216, (height, width))
    across, down = -(-width // h), -(-height // v)
    blue, red = rng.integers(100, 156, (2, down, across))
    padded = np.zeros((down * v, across * h), int)
    padded[:height, :width] = bright
    units = padded.reshape(down, v, across, h).transpose(0, 2, 1, 3).reshape(down, across, h * v)
    data = np.concatenate([units, blue[..., None], red[..., None]], -1).astype(np.uint8).tobytes()
    path = write(
        tmp_path / "a.tif",
        [data],
        (width, height, 3),
        8,
        6,
        compress=compress,
        more={"t530": [h, v]},
    )
    cb, cr = (one.repeat(v, 0).repeat(h, 1)[:height, :width] - 128.0 for one in (blue, red))
    wanted = np.stack(
        [bright + 1.402 * cr, bright - 0.344136 * cb - 0.714136 * cr, bright + 1.772 * cb], -1
    )
    close(path, wanted.clip(0, 255).round(), within=2)


@pytest.mark.parametrize("bits", [8, 16])
def test_lab(tmp_path: Path, bits: int) -> None:
    """Grey from black to white, and the red, green and blue of sRGB as Lab with the white of
    D50."""
    lab = np.array(
        [
            [0, 0, 0],
            [53.585, 0, 0],
            [100, 0, 0],
            [54.29, 80.81, 69.89],
            [87.82, -79.27, 80.99],
            [29.57, 68.30, -112.03],
        ]
    )
    unit = 1 if bits == 8 else 256
    light = np.round(lab[:, 0] * (2**bits - 1) / 100).astype(int)
    samples = np.stack([light, *np.round(lab[:, 1:] * unit).astype(int).T], -1) % 2**bits
    path = tiff(tmp_path / "a.tif", samples.astype(f"u{bits // 8}").reshape(1, 6, 3), bits, 8)
    wanted = np.array(
        [[0, 0, 0], [128, 128, 128], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    )
    close(path, wanted.reshape(1, 6, 3), within=12 if bits == 8 else 3)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(("kind", "colour"), [(1, [0]), (2, [0, 100, 200])])
def test_transparency_is_shown_on_white(
    tmp_path: Path, bits: int, kind: int, colour: list[int], planar: bool
) -> None:
    top = 2**bits - 1
    straight = np.array([[[*colour, 255], [*colour, 0], [*colour, 51]]]) / 255
    shown = straight[..., :-1] * straight[..., -1:] + 1 - straight[..., -1:]
    multiplied = np.concatenate([straight[..., :-1] * straight[..., -1:], straight[..., -1:]], -1)
    for samples, extra in ((straight, 2), (multiplied, 1)):
        whole = np.round(samples * top).astype(np.uint8 if bits == 8 else np.uint16)
        path = tiff(tmp_path / "a.tif", whole, bits, kind, planar=planar, t338=[extra])
        close(path, shown * 255, within=2)


@pytest.mark.parametrize("form", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 3])
def test_differences_instead_of_values(tmp_path: Path, form: str, order: str, count: int) -> None:
    size = int(form[1])
    if form == "f4":
        values = (ramp(8, count) / 255).astype("f4")
        swapped = (
            values.reshape(len(values), -1)
            .astype(">f4")
            .view(np.uint8)
            .reshape(len(values), -1, 4)
            .transpose(0, 2, 1)
        )
        flat = swapped.reshape(len(values), -1, count)
        data = np.diff(flat, axis=1, prepend=np.zeros_like(flat[:, :1])).tobytes()
        shown, more = eight(values, 1), {"t317": [3], "t339": [3]}
    else:
        values = ramp(min(8 * size, 16), count).astype(form)
        change = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1])).astype(form)
        data = change.astype(f"{order}{change.dtype.str[1:]}").tobytes()
        shown, more = eight(values, 255 if size == 1 else 65535), {"t317": [2]}
    path = write(
        tmp_path / "a.tif",
        [data],
        (21, 5, count),
        8 * size,
        1 if count == 1 else 2,
        order,
        compress=True,
        more=more,
    )
    close(path, shown, within=1)


@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_bits_in_the_other_order(tmp_path: Path, bits: int) -> None:
    samples = ramp(bits)
    data = packed(samples, bits, "<")
    turned = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    path = write(tmp_path / "a.tif", [turned], (21, 5, 1), bits, 1, more={"t266": [2]})
    close(path, eight(samples, 2**bits - 1))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("bits", [8, 12])
def test_tiff_is_turned_as_it_says(tmp_path: Path, bits: int, turn: int) -> None:
    samples = ramp(bits, 3)
    upright = eight(samples, 2**bits - 1)
    turned = as_oriented(upright, turn)
    close(tiff(tmp_path / "a.tif", samples, bits, 2, t274=[turn]), turned)


@pytest.mark.parametrize(
    ("bits", "kind", "count", "more", "reason"),
    [
        (8, 9, 3, {}, "its colours are ICC Lab, which is not read: save it as RGB"),
        (8, 32803, 1, {}, "its colours are raw camera data, which is not read"),
        (8, 2, 2, {}, "it has 2 of the 3 channels"),
        (32, 1, 1, {"t339": [5]}, "its pixels are complex numbers of 32 bits"),
        (32, 1, 1, {"t339": [3], "t258": [24]}, "its pixels are floating-point numbers of 24 bits"),
        (16, 2, 3, {"t258": [5, 6, 5]}, r"its channels have different depths \(5, 6, 5 bits\)"),
        (12, 1, 1, {"t317": [2]}, "it is compressed with predictor 2 on 12 bits"),
    ],
)
def test_what_is_not_read_says_truly_why(
    tmp_path: Path, bits: int, kind: int, count: int, more: dict[str, list[int]], reason: str
) -> None:
    numbers: Any = more
    path = tiff(tmp_path / "a.tif", ramp(bits, count), bits, kind, **numbers)
    with pytest.raises(ValueError, match=reason) as raised:
        decoded(path)
    assert "no JPEG" not in str(raised.value)


@pytest.mark.parametrize("layout", ["strips", "tiles", "compressed"])
@pytest.mark.parametrize("bits", [8, 12])
def test_a_tiff_that_is_cut_off_is_refused(tmp_path: Path, bits: int, layout: str) -> None:
    """The list of tags stays, but points behind what is there."""
    path = tiff(
        tmp_path / "a.tif",
        ramp(bits, 3),
        bits,
        2,
        tile=16 if layout == "tiles" else 0,
        compress=layout == "compressed",
    )
    content = bytearray(path.read_bytes())
    at = content.index(
        struct.pack("<HHI", 324 if layout == "tiles" else 273, 4, 1 if layout != "tiles" else 2)
    )
    if layout != "tiles":
        content[at + 8 : at + 12] = struct.pack("<I", len(content) - 10)
    else:
        (places,) = struct.unpack_from("<I", content, at + 8)
        content[places : places + 4] = struct.pack("<I", len(content) - 10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^it cannot be read"):
        decoded(path)


@pytest.mark.parametrize("kind", [2, 5, 7, 12])
@pytest.mark.parametrize("tag", [270, 282, 305, 306, 700, 33723, 34377, 34665, 34675, 37724])
def test_broken_tags_beside_the_pixels_cost_nothing(tmp_path: Path, tag: int, kind: int) -> None:
    """A text, a resolution, XMP, IPTC, EXIF, a profile: of a wrong type, and at a place that is not
    there."""
    samples = ramp(8, 3)
    more: Any = {f"t{tag}": [7, 7, 7, 7, 7], "t274": [6]}
    path = tiff(tmp_path / "a.tif", samples, 8, 2, **more)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", tag, 3, 5))
    content[at : at + 12] = struct.pack("<HHII", tag, kind, 2**30, len(content) + 99)
    path.write_bytes(content)
    close(path, np.rot90(eight(samples, 255), -1))


def test_a_large_deep_tiff_is_fitted_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = ramp(12, 3, height=200, width=300)
    path = tiff(tmp_path / "a.tif", samples, 12, 2)
    whole = fitted(path, (16, 16), 3)
    monkeypatch.setattr(image_files, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(image_files, "BAND_PIXELS", 4000)
    assert np.array_equal(fitted(path, (16, 16), 3), whole)
    assert np.array_equal(np.asarray(decoded(path)), eight(samples, 4095))


def test_pillow_and_this_reader_agree(tmp_path: Path) -> None:
    """What Pillow reads rightly it goes on reading; the same pixels in planes come the other
    way."""
    samples = ramp(8, 3)
    one, other = (
        tiff(tmp_path / "a.tif", samples, 8, 2),
        tiff(tmp_path / "b.tif", samples, 8, 2, planar=True),
    )
    with Image.open(one) as image:
        assert np.array_equal(np.asarray(image), samples)
    assert np.array_equal(np.asarray(decoded(one)), np.asarray(decoded(other)))
