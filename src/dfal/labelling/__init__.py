"""Label a folder of images.

`Session` opens a store from Python; `dfal label` opens the page over the same one.
"""

from typing import TYPE_CHECKING

from dfal.labelling.settings import Settings
from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.labelling.store.session import Session
else:
    __getattr__, __dir__ = lazy_names(__name__, {"dfal.labelling.store.session": "Session"})

__all__ = ["Session", "Settings"]
