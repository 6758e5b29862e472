"""From an image file to pixels: whatever its kind, 8 bits, grey or colour, turned as it was taken,
on white."""

import contextlib
import errno
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from dfal.data import image_metadata, tiff_pixels
from dfal.errors import DfalError, first_line

Result = TypeVar("Result")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
"""What is read. No other of Pillow's many readers ever sees a file."""
GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's names for images without colour."""
MOST = 178_000_000
"""Pixels of an image, at most: decoded it would take half a gigabyte. Pillow refuses a little
more."""
LARGE = 16_000_000
"""Pixels beyond which an image is put on white and shrunk in bands: all of it at once would be in
memory several times."""
BAND = 4_000_000
"""Pixels of a band, and of the images that are decoded without waiting for others."""
AT_ONCE = 64_000_000
"""Pixels that are decoded at a time by all threads together. A larger image is decoded alone."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""

# Between half of that and all of it Pillow only warns, which would fall into the terminal of
# somebody who scans posters.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What is wrong with metadata costs nothing and concerns nobody.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class Unavailable(DfalError):  # noqa: N818
    """A file cannot be read just now: the disk, the network or the memory is the reason, and no
    fault of the file's.

    Attributes:
        general: whether the reason concerns other files too, as that of a folder that is away.
        memory: whether there was not enough memory for it.
    """

    def __init__(self, text: str, *, general: bool = False, memory: bool = False):
        super().__init__(text)
        self.general, self.memory = general, memory

    @classmethod
    def because(cls, error: OSError | MemoryError, name: str = "") -> "Unavailable":
        """Say what the system said, in one sentence."""
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
    """Lets threads hold so many pixels at a time. Who asks for more waits, in the order of asking.

    Args:
        total: pixels that all threads may hold together; who wants more than that waits until no
        other holds any.
    """

    def __init__(self, total: int):
        self._total, self._held = total, 0
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold some pixels. Small images need not wait."""
        if pixels <= BAND:
            yield
            return
        pixels = min(pixels, self._total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._held + pixels <= self._total)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


BUDGET = PixelBudget(AT_ONCE)
"""That of this process."""


def header(path: Path) -> tuple[tuple[int, int], str] | None:
    """Size and mode of an image, without decoding it; None where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size, image.mode
    except OSError as error:
        if error.errno is not None:
            return None
    except Exception:  # noqa: S110  decoders raise anything
        pass
    try:
        content = path.read_bytes()
        if tiff := tiff_pixels.parse(content):
            return tiff.size, "L" if tiff.grey else "RGB"
        if (plain := image_metadata.without_metadata(content)) is None:
            return None
        with Image.open(io.BytesIO(plain), formats=FORMATS) as image:
            return image.size, image.mode
    except Exception:
        return None


def decoded(path: Path, least: int | None = None, longest: int | None = None) -> Image.Image:
    """The image in mode L or RGB. Of an animation or a stack it is the first frame.

    Args:
        path: of the file.
        least: where it is given, a JPEG may be decoded smaller, with no side shorter than this.
        longest: where it is given, a large image may come smaller, with its longer side no shorter
        than this.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """

    def finish(image: Image.Image, turn: int) -> Image.Image:
        factor = max(1, int(max(image.size) / longest / 2)) if longest else 1
        return _whole(image, turn, (factor, factor))

    return _read(path, least, finish)


def fitted(path: Path, size: tuple[int, int], channels: int) -> UInt8[np.ndarray, "h w c"]:
    """The image as a network sees it: the whole of it, shrunk or enlarged to fit into `size`,
    height × width.

    What is left over is filled with the median colour of the image's own border. A centre crop
    would cut off what a person is asked about, squeezing would change its shape, and black bars
    would be the strongest edges in the picture. Images of that size already come through untouched.

    Raises:
        Unavailable: where the system or the memory does not let it be read just now.
        ValueError: with the reason, where the file cannot be read.
    """

    def finish(image: Image.Image, turn: int) -> Image.Image:
        across, down = image.size if turn < 5 else image.size[::-1]
        scale = min(size[0] / down, size[1] / across)
        width, height = (max(1, round(side * scale)) for side in (across, down))
        gap = (
            (across / width / 3, down / height / 3)
            if turn < 5
            else (down / height / 3, across / width / 3)
        )
        factor = (
            (max(1, int(gap[0])), max(1, int(gap[1])))
            if image.width * image.height > LARGE
            else (1, 1)
        )
        box = (
            0,
            0,
            image.width / factor[0],
            image.height / factor[1],
        )  # the last pixels of what is reduced are partly outside
        image = _whole(image, turn, factor).convert("L" if channels == 1 else "RGB")
        if image.size == (width, height):
            return image
        inside = box if turn == 1 and factor != (1, 1) else None
        return image.resize((width, height), Image.Resampling.BICUBIC, inside, reducing_gap=3.0)

    pixels = np.asarray(_read(path, 2 * max(size), finish))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    whole = np.empty((*size, channels), np.uint8)
    whole[:] = np.median(border, axis=0)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    whole[top : top + height, left : left + width] = pixels
    return whole


def _read(path: Path, least: int | None, finish: Callable[[Image.Image, int], Result]) -> Result:
    """Decode a file and finish it, first as it is, and where that fails without its metadata."""
    try:
        content = (
            path.read_bytes()
        )  # first: what fails from here on is the fault of the file or of the memory
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
        tiff = tiff_pixels.parse(content)
        plain = (
            tiff_pixels.without_metadata(content, tiff)
            if tiff
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
    """Why a file cannot be read, in a line."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ValueError(f"it has more than {MOST // 10**6} million pixels: make it smaller")
    if isinstance(error, UnidentifiedImageError):
        return ValueError("it is no JPEG, PNG, WebP, GIF or TIFF, whatever its name says")
    text = first_line(error)
    if isinstance(error, OSError):
        if (
            error.errno is not None or "out of memory" in text
        ):  # Pillow's own errors of files have no number
            return Unavailable.because(error)
        return ValueError(f"it cannot be read ({text})")
    return ValueError(
        text if text.startswith(("it ", "its ", "there ")) else f"it cannot be read ({text})"
    )


def _decode(
    content: bytes, original: bytes, least: int | None, finish: Callable[[Image.Image, int], Result]
) -> Result:
    """Decode a file, and finish it before others may take the memory."""
    tiff = tiff_pixels.parse(content)
    if tiff and not tiff.suits_pillow():
        _refuse_bombs(tiff.size)
        with BUDGET.hold(tiff.size[0] * tiff.size[1]):
            return finish(tiff_pixels.read(content, tiff), tiff.turned)
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _refuse_bombs(image.size)
        if least is not None:
            before = image.size
            image.draft(None, (least, least))
            size = (
                before if image.info.get("progressive") else image.size
            )  # these are kept whole while they are decoded
        else:
            size = image.size
        with BUDGET.hold(size[0] * size[1]):
            image.load()
            return finish(image, _turn(image, original))


def _refuse_bombs(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST:
        raise Image.DecompressionBombError


def _turn(image: Image.Image, content: bytes) -> int:
    """How an image is turned, 1 to 8, as far as its metadata can be read."""
    try:
        found = image.getexif().get(image_metadata.ORIENTATION)
    except Exception:  # metadata may hold anything
        found = None
    return (
        found if isinstance(found, int) and 1 <= found <= 8 else image_metadata.orientation(content)
    )


def _whole(image: Image.Image, turn: int, factor: tuple[int, int]) -> Image.Image:
    """An image in mode L or RGB, upright; a large one reduced by a factor (across, down), band by
    band."""
    if image.width * image.height <= LARGE:
        upright = image.transpose(TURNS[turn]) if turn in TURNS else image
        return _opaque(_eight_bits(upright))
    if factor == (1, 1) and image.mode in {"L", "RGB"} and not image.has_transparency_data:
        whole = image
    else:
        rows = max(1, BAND // image.width // factor[1]) * factor[1]
        size = (-(-image.width // factor[0]), -(-image.height // factor[1]))
        whole = Image.new("L" if image.mode in GREY else "RGB", size)
        for top in range(0, image.height, rows):
            band = _opaque(
                _eight_bits(image.crop((0, top, image.width, min(top + rows, image.height))))
            )
            whole.paste(band.reduce(factor) if factor != (1, 1) else band, (0, top // factor[1]))
    return whole.transpose(TURNS[turn]) if turn in TURNS else whole


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deeper images scaled by their full range, not by what one image holds of it: brightness is
    kept."""
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
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        white.alpha_composite(over)
        return white.convert("L" if image.mode in GREY else "RGB")
    return (
        image if image.mode in {"L", "RGB"} else image.convert("L" if image.mode in GREY else "RGB")
    )
