"""The graph of nearest neighbours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

SIMILARITIES = 1 << 24
"""Similarities in memory at a time."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest other rows of each row, the nearest first.

    Attributes:
        indices: which rows they are.
        similarities: the inner products with them.
    """

    indices: Int32[np.ndarray, "n k"]
    similarities: Float32[np.ndarray, "n k"]


def nearest(
    rows: Float32[np.ndarray, "n m"], k: int, proceed: Callable[[], None] = lambda: None
) -> Neighbours:
    """Find the k rows with the largest inner product with each row, exactly.

    Args:
        rows: of length 1.
        k: how many; all others where there are fewer.
        proceed: called between blocks of rows; what it raises ends the search.
    """
    n = len(rows)
    k = min(k, n - 1)
    indices = np.empty((n, k), np.int32)
    similarities = np.empty((n, k), np.float32)
    if not k:
        return Neighbours(indices, similarities)
    block = max(1, min(1024, SIMILARITIES // n))
    for start in range(0, n, block):
        proceed()
        products = rows[start : start + block] @ rows.T
        own = np.arange(len(products))
        products[own, start + own] = -np.inf
        found = np.argpartition(products, n - k, axis=1)[:, n - k :]
        values = np.take_along_axis(products, found, axis=1)
        # Ties by index, so that the order does not depend on how a partition is made.
        order = np.lexsort((found, -values), axis=1)
        indices[start : start + block] = np.take_along_axis(found, order, axis=1)
        similarities[start : start + block] = np.take_along_axis(values, order, axis=1)
    return Neighbours(indices, similarities)


def normalised(neighbours: Neighbours) -> Any:
    """Return S = D^(−1/2) W D^(−1/2) as a sparse matrix.

    W_ij is 1 where two rows are each other's neighbours, 1/2 where only one of them is the other's,
    and D has the sums of its rows. The eigenvalues of S lie between −1 and 1.

    Args:
        neighbours: of each row.

    Returns:
        A `scipy.sparse.csr_array` of shape (n, n) in single precision.
    """
    from scipy import sparse

    n, k = neighbours.indices.shape
    starts = np.arange(0, n * k + 1, k) if k else np.zeros(n + 1, np.int32)
    directed = sparse.csr_array(
        (np.full(n * k, 0.5, np.float32), neighbours.indices.ravel(), starts), shape=(n, n)
    )
    weights = (directed + directed.T).tocsr()
    degree = np.asarray(weights.sum(axis=1)).ravel()
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1e-12)))
    return (scale @ weights @ scale).tocsr().astype(np.float32)
