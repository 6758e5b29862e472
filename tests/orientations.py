"""What the eight orientations of EXIF and TIFF (tag 274) mean."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_oriented(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels, rows × columns × channels, as they are to be shown."""
    shown: NDArray[Any] = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    return shown
