"""The files of a folder as they are now: whether they are there, and their pixels."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from dfal.data.image_files import Unavailable, fitted, fitted_sizes
from dfal.data.listing import Entry, is_listable

Result = NDArray[np.uint8] | str
"""The pixels of an image, or the reason why there are none."""


class FolderFiles:
    """Reads the files of a folder.

    Args:
        folder: the folder.
        paths: of its images, relative to it, with "/".
        shape: height, width and channels of what `pixels` returns.
    """

    def __init__(self, folder: Path, paths: Sequence[str], shape: tuple[int, int, int]):
        self._folder, self._paths, self._shape = folder, paths, shape
        self._listed: dict[str, set[str]] = {}

    def entry(self, path: str) -> Entry | None:
        """Return a file as it is now; None where it has vanished.

        Raises:
            Unavailable: where it cannot be reached just now.
        """
        for attempt in (1, 2):
            try:
                status = (self._folder / path).stat()
                is_there = stat.S_ISREG(status.st_mode) and is_listable(path)
                return Entry(path, status.st_size, status.st_mtime_ns) if is_there else None
            except (FileNotFoundError, NotADirectoryError):
                if self._is_away(path):
                    away = f"the folder {(self._folder / path).parent} is away"
                    raise Unavailable(
                        f"{path} cannot be read just now: {away}", general=True
                    ) from None
                if attempt == 1:  # the folder may have come back between the two looks
                    continue
            except OSError as error:
                raise Unavailable.because(error, path) from None
        return None

    def exists(self, path: str) -> bool:
        """Return whether there is something at a path."""
        return (self._folder / path).exists()

    def pixels(self, path: str) -> Result:
        """Return the pixels of an image, channels first.

        Raises:
            Unavailable: where it cannot be read just now.
        """
        try:
            return _channels_first(fitted(self._folder / path, self._shape[:2], self._shape[2]))
        except Unavailable:
            raise
        except ValueError as error:
            return str(error)

    def pixels_of_two_sizes(self, path: str, shape: tuple[int, int, int]) -> tuple[Result, Result]:
        """Return the pixels of an image as `pixels` does, and those in another shape.

        Raises:
            Unavailable: where it cannot be read just now.
        """
        try:
            pixels, large = fitted_sizes(self._folder / path, [self._shape, shape])
            return _channels_first(pixels), large
        except Unavailable:
            raise
        except ValueError as error:
            return str(error), str(error)

    def _is_away(self, path: str) -> bool:
        """Return whether the folder of a file is away, as that of an unplugged drive.

        It is where it does not exist, or holds nothing of what was listed in it. Of a folder with
        one image only, the folder around it is examined.
        """
        if not self._listed:
            listed: dict[str, set[str]] = {}
            for listed_path in self._paths:
                inside, _, name = listed_path.rpartition("/")
                while name not in (names := listed.setdefault(inside, set())):
                    names.add(name)
                    if not inside:
                        break
                    inside, _, name = inside.rpartition("/")
            self._listed = listed
        inside, _, name = path.rpartition("/")
        others = self._listed.get(inside, set()) - {name}
        try:
            with os.scandir(self._folder / inside) as files:
                if others:
                    return not any(file.name in others for file in files)
        except OSError:
            return True
        return bool(inside) and self._is_away(inside)


def _channels_first(pixels: UInt8[np.ndarray, "h w c"]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def named(error: Unavailable, path: str) -> Unavailable:
    """Return the same error with the path of an image in front."""
    text = str(error) if str(error).startswith(path) else f"{path}: {error}"
    return Unavailable(text, general=error.general, memory=error.memory)
