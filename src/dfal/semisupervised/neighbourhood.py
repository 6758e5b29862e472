"""What is computed once for some images, before any label: their space and their graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from dfal.semisupervised.graph import nearest, normalised
from dfal.semisupervised.space import Space, fit_space

DIMENSIONS = 128
"""Principal components that are kept."""

NEIGHBOURS = 20
"""Nearest neighbours that an image is joined to."""


@dataclass(frozen=True)
class Neighbourhood:
    """Images in their space, joined to their nearest neighbours.

    Attributes:
        space: from features to rows.
        rows: z of each image.
        graph: S, a `scipy.sparse.csr_array` of shape (n, n).
    """

    space: Space
    rows: Float32[np.ndarray, "n m"]
    graph: Any

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "n d"],
        *,
        dimensions: int | None = DIMENSIONS,
        standardise: bool = True,
        neighbours: int = NEIGHBOURS,
        proceed: Callable[[], None] = lambda: None,
    ) -> "Neighbourhood":
        """Compute space and graph of images from their features.

        Args:
            features: a row for each image, in any precision, a memory map too.
            dimensions: of the space, as in `fit_space`.
            standardise: as in `fit_space`.
            neighbours: how many of an image.
            proceed: called about every second of work; what it raises ends it.
        """
        space = fit_space(features, dimensions, standardise=standardise)
        return cls.within(space, features, neighbours=neighbours, proceed=proceed)

    @classmethod
    def within(
        cls,
        space: Space,
        features: Float[np.ndarray, "n d"],
        *,
        neighbours: int = NEIGHBOURS,
        proceed: Callable[[], None] = lambda: None,
    ) -> "Neighbourhood":
        """Compute the graph of images in a space.

        Args:
            space: that takes the features.
            features: as in `of`.
            neighbours: as in `of`.
            proceed: as in `of`.
        """
        rows = space(features)
        return cls(space, rows, normalised(nearest(rows, neighbours, proceed)))
