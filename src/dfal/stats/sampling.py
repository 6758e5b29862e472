"""Systematic samples: places spread evenly over a sequence."""

import numpy as np


def evenly_spaced(length: int, most: int, *, descending: bool = False) -> list[int]:
    """Return places in a sequence, evenly spaced from the first to the last.

    Args:
        length: of the sequence; where it is at most `most`, all places are returned.
        most: the largest number of places, at least 1.
        descending: whether to begin with the last, which is the one that `most` = 1 leaves.
    """
    start, stop = (length - 1, 0) if descending else (0, length - 1)
    places: list[int] = np.linspace(start, stop, min(length, most)).round().astype(int).tolist()
    return places
