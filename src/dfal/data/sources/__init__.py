"""Images of your own: each way in is one file of this package and one line in its registry."""

from typing import TYPE_CHECKING

from dfal.data.sources.registry import SOURCES
from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.data.sources.base import Source
    from dfal.data.sources.dataset import load
    from dfal.data.sources.opening import is_own, open_source
    from dfal.data.sources.reading import LabelledImages, read
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.data.sources.base": "Source",
            "dfal.data.sources.dataset": "load",
            "dfal.data.sources.opening": "is_own open_source",
            "dfal.data.sources.reading": "LabelledImages read",
        },
    )

__all__ = ["SOURCES", "LabelledImages", "Source", "is_own", "load", "open_source", "read"]
