"""Label a folder of images: `Session` is the way to a store from Python; `dfal label` opens the
page over the same one."""

from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session

__all__ = ["Session", "Settings"]
