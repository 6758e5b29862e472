"""From an image file to pixels: whatever its kind, 8 bits, grey or colour, turned as it was taken, on white."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
"""What is read. No other of Pillow's many readers ever sees a file."""
GREY = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's names for images without colour."""
MOST = 178_000_000
"""Pixels of an image, at most: decoded it would take half a gigabyte. Pillow refuses a little more."""

# Between half of that and all of it Pillow only warns, which would fall into the terminal of somebody who scans posters.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def header(path: Path) -> tuple[tuple[int, int], str] | None:
    """Size and mode of an image, without decoding it; None where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size, image.mode
    except Exception:  # decoders raise anything
        return None


def decoded(path: Path, least: int | None = None) -> Image.Image:
    """The image in mode L or RGB. Of an animation or a stack it is the first frame.

    Args:
        path: of the file.
        least: where it is given, a JPEG may be decoded smaller, with no side shorter than this.

    Raises:
        ValueError: with the reason, where the file cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST:
                raise Image.DecompressionBombError
            if least is not None:
                image.draft(None, (least, least))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _opaque(_eight_bits(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"it has more than {MOST // 10**6} million pixels: make it smaller") from None
    except UnidentifiedImageError:
        raise ValueError("it is no JPEG, PNG, WebP, GIF or TIFF, whatever its name says") from None
    except MemoryError:
        raise ValueError("there is not enough memory to decode it") from None
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from None
    except Exception as error:  # decoders raise anything: SyntaxError, struct.error, KeyError, …
        raise ValueError(f"it cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from None


def fitted(path: Path, size: tuple[int, int], channels: int) -> UInt8[np.ndarray, "h w c"]:
    """The image as a network sees it: the whole of it, shrunk or enlarged to fit into `size`, height × width.

    What is left over is filled with the median colour of the image's own border. A centre crop would cut off what a person is
    asked about, squeezing would change its shape, and black bars would be the strongest edges in the picture. Images of that
    size already come through untouched.

    Raises:
        ValueError: with the reason, where the file cannot be read.
    """
    image = decoded(path, least=2 * max(size)).convert("L" if channels == 1 else "RGB")
    scale = min(size[0] / image.height, size[1] / image.width)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(height, width, channels)
    if (height, width) == size:
        return pixels
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    whole = np.empty((*size, channels), np.uint8)
    whole[:] = np.median(border, axis=0)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    whole[top : top + height, left : left + width] = pixels
    return whole


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deeper images scaled by their full range, not by what one image holds of it: brightness is kept."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):  # NaN is not either
        raise ValueError(f"its pixels lie between {values.min():g} and {values.max():g}, but 0 to {top:g} is understood")
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        white.alpha_composite(over)
        return white.convert("L" if image.mode in GREY else "RGB")
    return image if image.mode in {"L", "RGB"} else image.convert("L" if image.mode in GREY else "RGB")
