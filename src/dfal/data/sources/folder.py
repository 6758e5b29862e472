"""Folders of images in sub-folders, in a zip archive, and on any file system of fsspec."""

from pathlib import Path
from typing import Any

from dfal.data.layout import Layout
from dfal.data.listing import is_listable
from dfal.data.sources.addresses import files, is_address, key_of
from dfal.data.sources.base import Source, without_images

TEST = "test"
"""The part that is the test set."""


def recognises(data: Any) -> bool:
    """Return whether this is a folder, an archive, or an address."""
    return isinstance(data, str) and (
        is_address(data) or data.endswith(".zip") or Path(data).is_dir()
    )


def open_source(data: str) -> Source:
    """Open the images of a folder; sub-folders are classes, or train and test with classes.

    Raises:
        DfalError: where there is no image, and where the address cannot be opened.
    """
    found = files(data)
    root = _common([file.path for file in found])
    images = [file for file in found if is_listable(file.path.removeprefix(root).lstrip("/"))]
    if not images:
        raise without_images(data, "it holds no file with the ending of an image")
    paths = [file.path.removeprefix(root).lstrip("/") for file in images]
    layout = Layout.of(paths)
    kept = [index for index in range(len(images)) if index in layout.classes] or list(
        range(len(images))
    )
    in_test = [layout.parts.get(index) == TEST for index in kept]
    return Source(
        data,
        len(kept),
        lambda index: (images[kept[index]].read(), None),
        labels=[layout.classes[index] for index in kept] if layout.classes else None,
        in_test=in_test if any(in_test) else None,
        key=lambda: key_of(images[index] for index in kept),
        path=lambda index: paths[kept[index]],
    )


def _common(paths: list[str]) -> str:
    """Return the folder that all paths lie in, where it is none of a class; with a slash."""
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = []
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        shared.append(a)
    return "".join(f"{name}/" for name in shared)
