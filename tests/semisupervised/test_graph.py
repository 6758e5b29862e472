"""The graph of nearest neighbours."""

import numpy as np
import pytest

from dfal.semisupervised import graph
from dfal.semisupervised.graph import nearest, normalised


def unit_rows(n: int, m: int = 6) -> np.ndarray:
    rows = np.random.default_rng(n).standard_normal((n, m)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


@pytest.mark.parametrize("similarities", [1 << 24, 700])
def test_nearest_are_those_of_a_full_sort(
    similarities: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "SIMILARITIES", similarities)
    rows = unit_rows(200)
    found = nearest(rows, 7)
    products = rows @ rows.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_array_equal(found.indices, np.argsort(-products, axis=1)[:, :7])
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(products, found.indices, axis=1), atol=1e-6
    )


def test_fewer_rows_than_neighbours() -> None:
    assert nearest(unit_rows(3), 10).indices.shape == (3, 2)
    assert nearest(unit_rows(1), 10).indices.shape == (1, 0)
    assert normalised(nearest(unit_rows(1), 10)).shape == (1, 1)


def test_a_search_can_be_ended() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest(unit_rows(50), 3, stop)


def test_graph_is_symmetric_and_normalised_by_degrees() -> None:
    found = nearest(unit_rows(60), 5)
    weights = np.zeros((60, 60))
    for row, others in enumerate(found.indices):
        weights[row, others] += 0.5
        weights[others, row] += 0.5
    degree = weights.sum(1)
    s = normalised(found).toarray()
    np.testing.assert_allclose(s, weights / np.sqrt(np.outer(degree, degree)), atol=1e-6)
    assert np.abs(np.linalg.eigvalsh(s)).max() < 1 + 1e-5
