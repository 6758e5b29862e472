"""Label a folder of images: `Session` is the way to a store from Python; `dfal label` opens the
page over the same one."""

from dfal.labelling.session import Session
from dfal.labelling.store import Settings

__all__ = ["Session", "Settings"]
