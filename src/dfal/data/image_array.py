"""Arrays of images, in memory or memory-mapped, which are taken by index as floats in [0, 1]."""

import functools
import hashlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from dfal.arguments import kind_of
from dfal.errors import DfalError

CHUNK = 4096
"""Images read at a time where all of them are read once."""


def _as_array(raw: Any) -> NDArray[Any]:
    """Return an array, a tensor, or a list of arrays or tensors of one shape, as an array.

    Raises:
        DfalError: for anything else: data sets of pairs, loaders of batches, lists of pictures.
    """
    if isinstance(raw, Tensor):
        if raw.layout != torch.strided or raw.is_meta:
            raise DfalError(
                f"images must be a dense tensor, but it is {raw.layout} on {raw.device}: try"
                " images.to_dense()"
            )
        return (
            (raw.float() if raw.dtype == torch.bfloat16 else raw)
            .detach()
            .cpu()
            .resolve_conj()
            .resolve_neg()
            .numpy()
        )
    if (
        isinstance(raw, list | tuple)
        and len(raw)
        and all(isinstance(image, Tensor | np.ndarray) for image in raw)
    ):
        if len({tuple(image.shape) for image in raw}) == 1:
            return np.stack(
                [_as_array(image) if isinstance(image, Tensor) else image for image in raw]
            )
        raise DfalError(
            "the images of this list have several shapes, but one is needed: fit them into one size"
            " first"
        )
    # HDF5 and others have arrays of their own.
    if isinstance(raw, np.ndarray) or (hasattr(raw, "shape") and hasattr(raw, "dtype")):
        return np.asanyarray(raw)
    if hasattr(raw, "__getitem__") and hasattr(raw, "tensors"):
        cure = "dfal.Images.of(dataset) reads it"
    elif hasattr(raw, "dataset") and hasattr(raw, "batch_size"):
        cure = (
            "give the images of its data set, torch.stack([image for image, label in"
            " loader.dataset])"
        )
    elif (
        hasattr(raw, "__getitem__")
        and hasattr(raw, "__len__")
        and not isinstance(raw, list | tuple | dict | str | bytes)
    ):
        cure = "give its images, torch.stack([image for image, label in dataset])"
    else:
        cure = "give one array, np.stack([np.asarray(image) for image in images]), channels first"
    raise DfalError(
        f"images must be an array or a tensor of shape (N, …), but they are {_kind(raw)}: {cure}"
    )


def _check_finite(images: NDArray[Any], numbers: Sequence[int]) -> None:
    """Check that no image holds NaN or infinite values.

    Raises:
        DfalError: for the first that does, by its number.
    """
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise DfalError(
            f"image {numbers[int(np.argmin(finite))]} holds NaN or infinite values: repair it or"
            " leave it out"
        )


def _kind(raw: Any) -> str:
    """Return what a value is, and what is in it where it is a list."""
    items = sorted({type(item).__name__ for item in raw}) if isinstance(raw, list | tuple) else []
    return f"{kind_of(raw)} of {' and '.join(items)}" if items else kind_of(raw)


class Images:
    """N images of one shape.

    Arrays of uint8, memory maps too, stay as they are and are scaled to [0, 1] when images are
    taken; floating-point images are taken unscaled.

    Args:
        array: the images, first axis N.
        rows: which of them, in which order; a memory map is not read for it. All by default.

    Raises:
        DfalError: for an array without images, of another kind of number, or with NaN or infinite
            values; a memory map is not read for them here, but each image when it is taken.
    """

    def __init__(
        self, array: "Tensor | NDArray[Any] | Images", rows: Int64[np.ndarray, "m"] | None = None
    ):
        if isinstance(array, Images) and array.rows is not None:
            rows = array.rows if rows is None else array.rows[rows]
        array = array.array if isinstance(array, Images) else _as_array(array)
        if array.ndim < 2 or 0 in array.shape:
            raise DfalError(
                "images must be an array of shape (N, …) with a pixel or more, but its shape is"
                f" {tuple(array.shape)}"
            )
        if array.dtype != np.uint8:
            if not np.issubdtype(array.dtype, np.floating):
                raise DfalError(
                    f"images must be uint8 or floating point, but they are {array.dtype}: convert"
                    " them first"
                )
            if not isinstance(array, np.memmap):
                for start in range(0, len(array), CHUNK):
                    _check_finite(array[start : start + CHUNK], range(start, len(array)))
        self.array: NDArray[Any] = array
        self.rows: Int64[np.ndarray, m] | None = rows

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        size: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> "Images":
        """Read images from anything that `dfal.data.sources` takes; docs/data.md has examples.

        Args:
            data: a data set of PyTorch, torchvision or Hugging Face, an array, or the name or
                address of a folder, an archive, a table, or Parquet or WebDataset files.
            size: side in pixels into which images are fitted as a whole; by default they keep
                their own size, which must be the same for all.
            transform: called with each picture; returns an array or tensor, channels first.
            mean: of each channel, subtracted from pixels in [0, 1].
            std: of each channel, by which the difference is divided.

        Raises:
            DfalError: for what is no set of images, or cannot be read.
        """
        # A plain import would be a circle: sources make Images.
        reading = importlib.import_module("dfal.data.sources.reading")
        images: Images = reading.images_of(data, size=size, transform=transform, mean=mean, std=std)
        return images

    def __repr__(self) -> str:
        return f"Images({len(self)} × {self.shape}, {self.array.dtype})"

    def __len__(self) -> int:
        return len(self.array if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image, channels first."""
        return tuple(self.array.shape[1:])

    def raw(self, indices: Int64[np.ndarray, "n"]) -> Shaped[np.ndarray, "n *image"]:
        """Return the images at `indices` as they are stored, unscaled."""
        images: NDArray[Any] = self.array[indices if self.rows is None else self.rows[indices]]
        return images

    def take(
        self, indices: Tensor, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "n *image"]:
        """Return the images at `indices`, in that order, as float32.

        Raises:
            DfalError: for one of a memory map with NaN or infinite values.
        """
        raw = self.raw(indices.cpu().numpy())
        if raw.dtype != np.uint8 and isinstance(self.array, np.memmap):
            _check_finite(raw, indices.tolist())
        native = raw.astype(raw.dtype.newbyteorder("="), copy=False)
        # A new tensor has contiguous strides: others lead to other convolutions, with other
        # rounding.
        images = torch.empty(raw.shape, device=device).copy_(torch.from_numpy(native))
        return images.div_(255) if raw.dtype == np.uint8 else images

    def pixels(self) -> Shaped[Tensor, "n *image"]:
        """Return a copy of all images: as they are stored where that is as uint8, else as float32.

        Raises:
            DfalError: for one of a memory map with NaN or infinite values.
        """
        rows = np.arange(len(self))
        if self.array.dtype == np.uint8:
            return torch.from_numpy(np.array(self.raw(rows)))
        return self.take(torch.from_numpy(rows))

    @functools.cached_property
    def digest(self) -> str:
        """Return the SHA-256 of all images, which is computed once."""
        digest = hashlib.sha256(f"{len(self)} {self.shape} {self.array.dtype.str}".encode())
        for start in range(0, len(self), CHUNK):
            part = self.raw(np.arange(start, min(start + CHUNK, len(self))))
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()
