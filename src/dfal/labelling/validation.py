"""Check what a labelling store says, which somebody else may have written: names, paths, numbers.

Requests are checked by `dfal.labelling.names`. What was allowed there once is still read here, so
that stores stay readable; what could leave the folder of images or of an export never was, but for
paths of the Python interface.
"""

import math
import os
import unicodedata
from pathlib import Path, PureWindowsPath
from typing import Any

from dfal.data.listing import ENDINGS
from dfal.data.path_names import find_file
from dfal.errors import DfalError
from dfal.labelling.names import FORBIDDEN, shown
from dfal.query import DECLINED, UNKNOWN

MAX_STORED_NAME = 1000
"""Characters of a name that is read."""


def check_class(name: str) -> None:
    """Check that a class can be a folder of an export.

    Raises:
        DfalError: for a name that leads elsewhere.
    """
    check_name(name)
    if any(letter in FORBIDDEN for letter in name) or name.startswith(".") or name.endswith("."):
        raise DfalError(
            f"it has the class {shown(name)}, whose name is not one that a folder may"
            " have: do not use this store"
        )


def check_name(name: str) -> None:
    """Check the name of a person, a class, or a page.

    Raises:
        ValueError: for a name that is empty, far too long, or has control characters.
    """
    if (
        not name
        or len(name) > MAX_STORED_NAME
        or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)
    ):
        raise ValueError(f"the name {shown(name)}")


def check_path(path: str, folder: str) -> None:
    """Check that an image lies in the folder of images.

    Args:
        path: of the image.
        folder: of the images; without one, paths are only texts, and nothing is read.

    Raises:
        ValueError: for a path that is empty.
        DfalError: for a path that is absolute or leads out of the folder.
    """
    if not path or "\0" in path:
        raise ValueError("an image without a path")
    if folder and not _is_inside(path):
        raise DfalError(
            f"it has the image {shown(path)}, which is not in its folder: do not use this store"
        )


def _is_inside(path: str) -> bool:
    if os.name == "nt":
        windows = PureWindowsPath(path)
        return not windows.drive and not windows.root and ".." not in windows.parts
    return not path.startswith("/") and (".." not in path or ".." not in path.split("/"))


def image_file(folder: str | Path, path: str) -> Path:
    """Return the file of an image that a store names; its accents may be written otherwise.

    Raises:
        DfalError: where the store names no folder, the path leads out of it, or the file is no
            image by its ending.
    """
    if not str(folder) or str(folder) == ".":
        raise DfalError(
            "the store names no folder of images: only its table of labels can be exported"
        )
    if not _is_inside(path):
        raise DfalError(
            f"the image {shown(path)} is not in the folder {folder}: do not use this store"
        )
    if Path(path).suffix.lower() not in ENDINGS:
        raise DfalError(
            f"{shown(path)} of the folder {folder} is not an image by its ending: do not use"
            " this store"
        )
    return find_file(Path(folder), path)


def target_file(folder: Path, name: str) -> Path:
    """Return a file or folder directly in a folder that is written.

    Raises:
        DfalError: for a name that leads elsewhere.
    """
    if (
        name in {"", ".", ".."}
        or "/" in name
        or "\0" in name
        or (os.name == "nt" and any(letter in name for letter in "\\:"))
    ):
        raise DfalError(f"{shown(name)} is not a name of a file in {folder}: do not use this store")
    return folder / name


def check_index(value: Any, count: int) -> None:
    """Check a number of an image or a class.

    Raises:
        ValueError: for one that there is not.
    """
    if not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"the number {value} of {count}")


def check_label(value: Any, classes: int) -> None:
    """Check what was answered: a class, `DECLINED` or `UNKNOWN`.

    Raises:
        ValueError: for anything else.
    """
    if value not in {DECLINED, UNKNOWN}:
        check_index(value, classes)


def check_seconds(*values: Any) -> None:
    """Check times and durations.

    Raises:
        ValueError: for one that is no number. Clocks may be wrong, and durations negative where one
        was set back.
    """
    for value in values:
        if value is not None and (not isinstance(value, int | float) or math.isnan(value)):
            raise ValueError(f"the time {value}")
