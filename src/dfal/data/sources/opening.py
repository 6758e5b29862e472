"""Find the way in that takes some data, and open them."""

from pathlib import Path
from typing import Any

from dfal.arguments import kind_of
from dfal.data.sources.base import Source, without_images
from dfal.data.sources.registry import SOURCES


def open_source(data: Any) -> Source:
    """Return the images of anything that one of `SOURCES` takes.

    Raises:
        DfalError: for anything else, in one sentence, and where it cannot be read.
    """
    if isinstance(data, Source):
        return data
    name = str(data) if isinstance(data, Path) else data
    for module in SOURCES.values():
        if module.recognises(name):
            source: Source = module.open_source(name)
            return source
    if isinstance(name, str):
        raise without_images(repr(name), "none of the forms that docs/data.md lists")
    raise without_images(f"this {kind_of(data)}", _why(data))


def is_own(name: str) -> bool:
    """Return whether a text is an address or file of own images, by its form alone."""
    return any(module.recognises(name) for module in SOURCES.values())


def _why(data: Any) -> str:
    if hasattr(data, "batch_size") and hasattr(data, "dataset"):
        return "it loads batches; its data set is .dataset"
    if hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        return "its images have no numbers; list(…) gives them some"
    if hasattr(data, "columns"):
        return "it is a table; write it as CSV with the columns path and label"
    return "it has neither a length nor images by number"
