"""Pixels of image files: of any kind to 8 bits, grey or colour, upright, on white."""

import contextlib
import errno
import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from dfal.data import image_metadata, tiff, tiff_pixels
from dfal.errors import DfalError, first_line

Result = TypeVar("Result")
Original = Path | bytes | Image.Image
"""A file, the content of one, or a picture that is decoded."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
"""Formats that are read. No other of Pillow's many readers ever sees a file."""
GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's names for images without colour."""
MAX_PIXELS = 178_000_000
"""Pixels of the largest image that is read: decoded it takes half a gigabyte. Pillow refuses a
little more."""
WHOLE_PIXELS = 16_000_000
"""Pixels up to which an image is put on white and shrunk as a whole. A larger one would be in
memory several times, and is processed in bands."""
BAND_PIXELS = 4_000_000
"""Pixels of a band, and of the largest image that is decoded without waiting for others."""
PIXELS_AT_ONCE = 64_000_000
"""Pixels that all threads together decode at a time. A larger image is decoded alone."""
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""

# Between half of `MAX_PIXELS` and all of it Pillow only warns, in the terminal of anyone who scans
# posters.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged metadata cost no image, and need no warning.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class Unavailable(DfalError):  # noqa: N818
    """A file cannot be read just now, because of the disk, the network or the memory.

    Attributes:
        general: whether the reason concerns other files too, as that of a folder that is away.
        memory: whether there was not enough memory for it.
    """

    def __init__(self, text: str, *, general: bool = False, memory: bool = False):
        super().__init__(text)
        self.general, self.memory = general, memory

    @classmethod
    def because(cls, error: OSError | MemoryError, name: str = "") -> "Unavailable":
        """Return the error of the system as one sentence.

        Args:
            error: of the system.
            name: of the file, for the beginning of the sentence.
        """
        what = f"{name}: it" if name else "it"
        if (
            isinstance(error, MemoryError)
            or error.errno == errno.ENOMEM
            or "out of memory" in str(error)
        ):
            return cls(f"{what} cannot be read just now (there is not enough memory)", memory=True)
        return cls(
            f"{what} cannot be read just now ({error.strerror or error})",
            general=error.errno not in {errno.EACCES, errno.EPERM, errno.EIO},
        )


class PixelBudget:
    """A limit on the pixels that all threads decode at a time; others wait for their turn.

    Args:
        total: pixels. A larger image is decoded when no other is.
    """

    def __init__(self, total: int):
        self._total, self._taken = total, 0
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take pixels from the budget for a block. Small images need not wait."""
        if pixels <= BAND_PIXELS:
            yield
            return
        pixels = min(pixels, self._total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._taken + pixels <= self._total)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


BUDGET = PixelBudget(PIXELS_AT_ONCE)
"""The budget of this process."""


def header(path: Path | bytes) -> tuple[tuple[int, int], str] | None:
    """Read the size (width, height) and mode of an image; None where it cannot be read.

    Args:
        path: a file, or the content of one.
    """
    try:
        file = io.BytesIO(path) if isinstance(path, bytes) else path
        with Image.open(file, formats=FORMATS) as image:
            return image.size, image.mode
    except OSError as error:
        if error.errno is not None:
            return None
    except Exception:  # noqa: S110  decoders raise anything
        pass
    try:
        content = path if isinstance(path, bytes) else path.read_bytes()
        if tags := tiff.parse(content):
            return tags.size, "L" if tags.grey else "RGB"
        if (plain := image_metadata.without_metadata(content)) is None:
            return None
        with Image.open(io.BytesIO(plain), formats=FORMATS) as image:
            return image.size, image.mode
    except Exception:
        return None


def decoded(path: Original, least: int | None = None, longest: int | None = None) -> Image.Image:
    """Decode an image to mode L or RGB; of an animation or a stack, the first frame.

    Args:
        path: of the file, its content, or a picture.
        least: where it is given, a JPEG may be decoded smaller, with no side shorter than this.
        longest: where it is given, a large image may be reduced, with its longer side no shorter
            than this.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """

    def finish(image: Image.Image, turn: int) -> Image.Image:
        factor = max(1, int(max(image.size) / longest / 2)) if longest else 1
        return _upright(image, turn, (factor, factor))

    return _read(path, least, finish)


def fitted(path: Original, size: tuple[int, int], channels: int) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image as a network sees it: resized as a whole to fit into `size`.

    The rest is filled with the median colour of the image's own border. A centre crop would cut off
    what a person is to label, squeezing would change its shape, and black bars would be the
    strongest edges in the picture. Images that have this size already stay as they are.

    Args:
        path: of the file, its content, or a picture.
        size: height and width of the result.
        channels: 1 or 3.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """
    return fitted_sizes(path, [(*size, channels)])[0]


def fitted_sizes(
    path: Original, shapes: Sequence[tuple[int, int, int]]
) -> list[UInt8[np.ndarray, "_h _w _c"]]:
    """Decode an image once for several networks, for each as `fitted`.

    The largest result is the one of `fitted`. The others are made from the same decoded image, and
    may differ by rounding from what `fitted` makes of a JPEG that it decodes smaller.

    Args:
        path: of the file, its content, or a picture.
        shapes: height, width and channels of each result.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """

    def finish(image: Image.Image, turn: int) -> list[Image.Image]:
        across, down = image.size if turn < 5 else image.size[::-1]
        sizes = [_inside(across, down, shape) for shape in shapes]
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        gap = (
            (across / width / 3, down / height / 3)
            if turn < 5
            else (down / height / 3, across / width / 3)
        )
        is_large = image.width * image.height > WHOLE_PIXELS
        factor = (max(1, int(gap[0])), max(1, int(gap[1]))) if is_large else (1, 1)
        # The last pixels of a reduced image are partly outside.
        box = (0, 0, image.width / factor[0], image.height / factor[1])
        inside = box if turn == 1 and factor != (1, 1) else None
        image = _upright(image, turn, factor)
        return [
            _resized(image, size, "L" if channels == 1 else "RGB", inside)
            for size, (_, _, channels) in zip(sizes, shapes, strict=True)
        ]

    least = 2 * max(side for height, width, _ in shapes for side in (height, width))
    images = _read(path, least, finish)
    return [_padded(np.asarray(image), shape) for image, shape in zip(images, shapes, strict=True)]


def _inside(across: int, down: int, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the width and height of an image that fits as a whole into a shape."""
    scale = min(shape[0] / down, shape[1] / across)
    return max(1, round(across * scale)), max(1, round(down * scale))


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    mode: str,
    inside: tuple[float, float, float, float] | None,
) -> Image.Image:
    """Return an image in a mode and a size (width, height), of the part of it that is inside."""
    image = image if image.mode == mode else image.convert(mode)
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, inside, reducing_gap=3.0)


def _padded(
    pixels: UInt8[np.ndarray, "*side"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "h w c"]:
    """Return pixels in the middle of a shape, the rest in the median colour of their border."""
    pixels = pixels.reshape(*pixels.shape[:2], shape[2])
    if pixels.shape == shape:
        return pixels
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    padded = np.empty(shape, np.uint8)
    padded[:] = np.median(border, axis=0)
    height, width = pixels.shape[:2]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded


def _read(
    path: Original, least: int | None, finish: Callable[[Image.Image, int], Result]
) -> Result:
    """Decode a file as it is, and where that fails without its metadata.

    Args:
        path: of the file, its content, or a picture.
        least: as in `decoded`.
        finish: (image, orientation) → the result.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """
    if isinstance(path, Image.Image):
        return finish(path, _orientation(path, b""))
    try:
        # What fails afterwards is due to the file or the memory.
        content = path if isinstance(path, bytes) else path.read_bytes()
    except IsADirectoryError:
        raise ValueError("it is a folder") from None
    except (OSError, MemoryError) as error:
        raise Unavailable.because(error) from None
    try:
        return _decode(content, content, least, finish)
    except MemoryError as error:
        raise Unavailable.because(error) from None
    except Exception as error:  # decoders raise anything: SyntaxError, struct.error, KeyError, …
        reason = _reason(error)
    try:
        tags = tiff.parse(content)
        plain = (
            tiff.without_metadata(content, tags)
            if tags
            else image_metadata.without_metadata(content)
        )
        if plain is not None:
            return _decode(plain, content, least, finish)
    except MemoryError as error:
        raise Unavailable.because(error) from None
    except Exception:  # noqa: S110  the metadata were not the reason, or cannot be told from the pixels
        pass
    raise reason


def _reason(error: Exception) -> ValueError:
    """Return the error that says in a line why a file cannot be read."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ValueError(f"it has more than {MAX_PIXELS // 10**6} million pixels: make it smaller")
    if isinstance(error, UnidentifiedImageError):
        return ValueError("it is no JPEG, PNG, WebP, GIF or TIFF, whatever its name says")
    text = first_line(error)
    if isinstance(error, OSError):
        # Pillow's own errors of files have no number.
        if error.errno is not None or "out of memory" in text:
            return Unavailable.because(error)
        return ValueError(f"it cannot be read ({text})")
    return ValueError(
        text if text.startswith(("it ", "its ", "there ")) else f"it cannot be read ({text})"
    )


def _decode(
    content: bytes, original: bytes, least: int | None, finish: Callable[[Image.Image, int], Result]
) -> Result:
    """Decode a file, and finish it before other images may take the memory.

    Args:
        content: what is decoded.
        original: the file, from which the orientation is read.
        least: pixels of the shorter side that are enough, as in `_read`.
        finish: what is done with the decoded image, as in `_read`.
    """
    tags = tiff.parse(content)
    if tags and not tags.suits_pillow():
        _refuse_bombs(tags.size)
        with BUDGET.hold(tags.size[0] * tags.size[1]):
            return finish(tiff_pixels.read(content, tags), tags.turned)
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _refuse_bombs(image.size)
        width, height = image.size
        if least is not None:
            image.draft(None, (least, least))
            if not image.info.get("progressive"):  # these are in memory whole while decoded
                width, height = image.size
        with BUDGET.hold(width * height):
            image.load()
            return finish(image, _orientation(image, original))


def _refuse_bombs(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise Image.DecompressionBombError


def _orientation(image: Image.Image, content: bytes) -> int:
    """Return the orientation of an image, 1 to 8, as far as its metadata can be read."""
    try:
        value = image.getexif().get(image_metadata.ORIENTATION)
    except Exception:  # metadata may hold anything
        value = None
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    return image_metadata.orientation(content)


def _upright(image: Image.Image, turn: int, factor: tuple[int, int]) -> Image.Image:
    """Return an image upright, in mode L or RGB.

    Args:
        image: as it was decoded.
        turn: its orientation, 1 to 8.
        factor: (across, down) by which a large image is reduced, band by band.
    """
    if image.width * image.height <= WHOLE_PIXELS:
        image = image.transpose(TRANSPOSITIONS[turn]) if turn in TRANSPOSITIONS else image
        return _opaque(_eight_bits(image))
    if factor == (1, 1) and image.mode in {"L", "RGB"} and not image.has_transparency_data:
        reduced = image
    else:
        rows = max(1, BAND_PIXELS // image.width // factor[1]) * factor[1]
        size = (-(-image.width // factor[0]), -(-image.height // factor[1]))
        reduced = Image.new("L" if image.mode in GREY else "RGB", size)
        for top in range(0, image.height, rows):
            band = _opaque(
                _eight_bits(image.crop((0, top, image.width, min(top + rows, image.height))))
            )
            reduced.paste(band.reduce(factor) if factor != (1, 1) else band, (0, top // factor[1]))
    return reduced.transpose(TRANSPOSITIONS[turn]) if turn in TRANSPOSITIONS else reduced


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale an image of more bits to 8, by its full range and not by the values that it has.

    Raises:
        ValueError: for values outside the range that is understood.
    """
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):  # NaN is not either
        raise ValueError(
            f"its pixels lie between {values.min():g} and {values.max():g}, but 0 to {top:g} is"
            " understood"
        )
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image on white, in mode L or RGB."""
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        white.alpha_composite(with_alpha)
        return white.convert("L" if image.mode in GREY else "RGB")
    return (
        image if image.mode in {"L", "RGB"} else image.convert("L" if image.mode in GREY else "RGB")
    )
