"""Check what a call to a session names, and the errors that say what is wrong with it."""

import numpy as np

from dfal.errors import DfalError
from dfal.labelling.store.state import State


class ConflictError(DfalError):
    """What was asked for is not possible now: it was answered meanwhile, or nothing is left."""


class NotFoundError(DfalError):
    """There is no such question, image or class."""


def is_whole_number(value: object) -> bool:
    """Return whether this is a whole number, NumPy's too; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_image(state: State, image: int) -> None:
    """Check that there is an image of this index.

    Raises:
        NotFoundError: where there is none.
    """
    if not is_whole_number(image) or not 0 <= image < len(state.paths):
        raise NotFoundError(
            f"there is no image {image!r}: there are {len(state.paths)}, numbered from 0"
        )
