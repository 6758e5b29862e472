"""From what a source gives, to pixels of one shape."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dfal.data.image_files import GREY, Unavailable, decoded, fitted, header
from dfal.data.listing import DEFAULT_SIDE, MAX_OWN_SIDE, SAMPLED_HEADERS
from dfal.data.resizing import resized
from dfal.data.sources.base import Source, check_image
from dfal.errors import DfalError
from dfal.plugins import describe_exception
from dfal.stats.sampling import evenly_spaced

Transform = Callable[[Any], Any]
CHANNELS = (1, 3)
"""Numbers by which an array of one image shows where its channels are."""


class Decoder:
    """Turns the items of a source into pixels of one shape.

    Args:
        source: of the images.
        size: side in pixels of a square that images are fitted into as a whole; None for their own
            size, which must be that of all.
        transform: called with each picture; returns an array or tensor.
        mean: of each channel, of pixels in [0, 1].
        std: of each channel.
        like_folders: whether images without a `size` are fitted into the square that a folder of
            them would get, instead of having to be of one size.

    Attributes:
        shape: channels, height and width of every image.
        dtype: uint8, or float32.
        from_files: whether the images are files or pictures, which can be read in other sizes too.

    Raises:
        DfalError: for items that are no images, and for images of several sizes without a `size`.
    """

    def __init__(
        self,
        source: Source,
        size: int | None = None,
        *,
        transform: Transform | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        like_folders: bool = False,
    ):
        if size is not None and size < 1:
            raise DfalError(f"size = {size} must be 1 pixel or more")
        self._source, self._size, self._transform = source, size, transform
        sample = [source.item(int(i))[0] for i in evenly_spaced(source.count, SAMPLED_HEADERS)]
        for image in sample:
            check_image(image, source.name)
        self.from_files = transform is None and _is_encoded(sample[0])
        self._channels = 1 if self.from_files and all(map(_is_grey, sample)) else 3
        if self.from_files and size is None and like_folders:
            sizes = {_size(image) for image in sample}
            own = next(iter(sizes))
            alike = len(sizes) == 1 and own is not None and own[0] == own[1] <= MAX_OWN_SIDE
            self._size = None if alike else DEFAULT_SIDE
        first = self._pixels(sample[0], 0)
        self.shape: tuple[int, ...] = first.shape
        self._stored = first.dtype
        self._normalise = _normaliser(mean, std, self.shape[0])
        self.dtype = np.dtype(np.float32) if self._normalise else first.dtype

    def __call__(self, index: int) -> tuple[NDArray[Any], Any]:
        """Return the pixels and the label of an image.

        Raises:
            DfalError: where it cannot be read, or is of another shape than the first.
        """
        image, label = self._source.item(index)
        check_image(image, self._source.name)
        pixels = self._pixels(image, index)
        if pixels.shape != self.shape or pixels.dtype != self._stored:
            raise DfalError(
                f"image {index} of {self._source.name} is {pixels.dtype} of shape {pixels.shape},"
                f" but image 0 is {self._stored} of shape {self.shape}: give size, the side in"
                " pixels into which all are fitted"
            )
        return (self._normalise(pixels) if self._normalise else pixels), label

    def originals(self, index: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return an image as bytes in another size, from the file or picture that it is."""
        return _fitted(self._source.item(index)[0], shape, self._named(index))

    def _pixels(self, image: Any, index: int) -> NDArray[Any]:
        """Return the pixels of an image, channels first."""
        if self.from_files:
            side = self._size
            if side is None:
                return _whole(image, self._channels, self._named(index))
            return _fitted(image, (self._channels, side, side), self._named(index))
        if self._transform is not None:
            picture = _picture(image, self._named(index)) if _is_encoded(image) else image
            try:
                image = self._transform(picture)
            except Exception as error:  # it is the user's code, which may raise anything
                raise DfalError(
                    f"the transform fails at image {index} ({describe_exception(error)})"
                ) from error
            check_image(image, "what the transform returns")
        pixels = _array(image)
        return pixels if self._size is None else _resized(pixels, self._size, self._named(index))

    def _named(self, index: int) -> str:
        return f"image {index} of {self._source.name}"


def _is_encoded(image: Any) -> bool:
    return isinstance(image, bytes | Image.Image)


def _size(image: Any) -> tuple[int, int] | None:
    """Return the width and height of a picture; None where it cannot be read."""
    if isinstance(image, Image.Image):
        return image.size
    found = header(image)
    return found[0] if found else None


def _is_grey(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return image.mode in GREY
    found = header(image)
    return found is not None and found[1] in GREY


def _picture(image: Any, name: str) -> Image.Image:
    try:
        return decoded(image)
    except (Unavailable, ValueError) as error:
        raise DfalError(f"{name}: {error}") from error


def _whole(image: Any, channels: int, name: str) -> NDArray[np.uint8]:
    """Return the pixels of a picture in its own size."""
    picture = _picture(image, name).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    return pixels.transpose(2, 0, 1)


def _fitted(image: Any, shape: tuple[int, int, int], name: str) -> NDArray[np.uint8]:
    channels, height, width = shape
    try:
        return fitted(image, (height, width), channels).transpose(2, 0, 1)
    except (Unavailable, ValueError) as error:
        raise DfalError(f"{name}: {error}") from error


def _array(image: Any) -> NDArray[Any]:
    """Return an array of an image, channels first, as uint8 or float32."""
    if isinstance(image, Image.Image):
        image = np.asarray(decoded(image))
    if isinstance(image, Tensor):
        tensor = image.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    else:
        array = np.asarray(image)
        if array.ndim == 3 and array.shape[2] in CHANNELS and array.shape[0] not in CHANNELS:
            array = array.transpose(2, 0, 1)
    array = array[None] if array.ndim == 2 else array
    return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)


def _resized(pixels: NDArray[Any], side: int, name: str) -> NDArray[Any]:
    """Return pixels fitted into a square.

    Raises:
        DfalError: for floating-point pixels outside [0, 1].
    """
    scaled = torch.from_numpy(np.array(pixels, np.float32))[None]
    if pixels.dtype == np.uint8:
        scaled /= 255
    elif scaled.min() < 0 or scaled.max() > 1:
        raise DfalError(
            f"{name} has pixels from {float(scaled.min()):.3g} to {float(scaled.max()):.3g}, but"
            " to be resized they must lie in [0, 1]: resize it in the transform"
        )
    found = resized(scaled, (len(pixels), side, side))[0]
    if pixels.dtype == np.uint8:
        return (found * 255).round().to(torch.uint8).numpy()
    return found.numpy()


def _normaliser(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> Callable[[NDArray[Any]], NDArray[np.float32]] | None:
    """Return the function that subtracts a mean and divides by a deviation; None for neither."""
    if mean is None and std is None:
        return None
    values = []
    for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0)):
        array = np.atleast_1d(np.asarray(default if given is None else given, np.float32))
        if array.shape not in {(1,), (channels,)}:
            raise DfalError(
                f"{name} has {array.size} numbers, but the images have {channels} channels: give"
                " one number for each"
            )
        values.append(array.reshape(-1, 1, 1))
    shift, scale = values
    if not (scale > 0).all():
        raise DfalError("std must be above 0 for each channel")

    def normalise(pixels: NDArray[Any]) -> NDArray[np.float32]:
        scaled = pixels.astype(np.float32)
        if pixels.dtype == np.uint8:
            scaled /= 255
        return (scaled - shift) / scale

    return normalise
