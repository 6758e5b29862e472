"""Agreement with published implementations: scikit-activeml, batchbald_redux and baal."""

from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfal.strategies.badge import k_means_plus_plus
from dfal.strategies.batch_bald import batch_bald
from dfal.strategies.clusters import most_typical
from dfal.strategies.coverage import gaussian
from dfal.strategies.scores import entropy, mutual_information
from dfal.strategies.selection import cover, farthest_first, unit

pytestmark = pytest.mark.filterwarnings("ignore")

Array = NDArray[np.float64]


def peer(name: str) -> ModuleType:
    """The module; without it the test is skipped."""
    found: ModuleType = pytest.importorskip(
        name, reason=f"there is no {name}: make", exc_type=ImportError
    )
    return found


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def partly_labelled(rows: Tensor, centres: Tensor) -> tuple[Array, Array]:
    """Rows without labels, and then centres with one."""
    labels = np.concatenate([np.full(len(rows), np.nan), np.zeros(len(centres))])
    return torch.cat([rows, centres]).double().numpy(), labels


@pytest.fixture
def probabilities() -> Tensor:
    """p(y | x, ω) of 5 networks, 40 images, and 4 classes."""
    return (normal(5, 40, 4) * 2).double().softmax(2)


def test_farthest_first_picks_what_scikit_activeml_picks() -> None:
    pool = peer("skactiveml.pool")
    rows, centres = normal(400, 5), normal(10, 5, seed=1)
    picks, radii = farthest_first(rows, centres, 25)
    x, y = partly_labelled(rows, centres)
    found, utilities = pool.CoreSet(random_state=0).query(
        x, y, batch_size=25, return_utilities=True
    )
    assert picks.tolist() == found.tolist()
    np.testing.assert_allclose(radii.numpy(), np.nanmax(utilities, axis=1), rtol=1e-4)


class Given:
    """A clustering that was made before."""

    def __init__(self, n_clusters: int, labels: Array):
        self.labels = labels

    def fit_predict(self, x: Array) -> Array:
        return self.labels


def test_typical_picks_what_scikit_activeml_picks() -> None:
    pool = peer("skactiveml.pool")
    sizes = [30, 45, 12, 60, 21, 33, 7, 1]
    cluster = torch.arange(8).repeat_interleave(torch.tensor(sizes))[
        torch.randperm(sum(sizes), generator=rng())
    ]
    rows = normal(len(cluster), 3)
    candidates = len(cluster) - 2
    assert len(cluster[candidates:].unique()) == 2
    x, y = partly_labelled(rows[:candidates], rows[candidates:])
    peers = pool.TypiClust(
        cluster_algo=Given, cluster_algo_dict={"labels": cluster.numpy()}, k=20, random_state=0
    )
    found, utilities = peers.query(x, y, batch_size=6, return_utilities=True)
    picks, typicalities = most_typical(rows, candidates, cluster, 6, neighbours=20)
    assert picks.tolist() == found.tolist()
    np.testing.assert_allclose(typicalities.numpy(), np.nanmax(utilities, axis=1), rtol=1e-4)


def test_batch_bald_picks_what_scikit_activeml_picks(probabilities: Tensor) -> None:
    pool = peer("skactiveml.pool")
    order, gains = batch_bald(probabilities, 5, 10_000, rng())
    utilities = pool.batch_bald(probabilities.numpy().copy(), 5, n_MC_samples=10_000)
    assert order.tolist() == np.nanargmax(utilities, axis=1).tolist()
    np.testing.assert_allclose(gains.cumsum(0).numpy(), np.nanmax(utilities, axis=1), rtol=1e-5)


def test_plus_plus_draws_with_the_distances_of_scikit_activeml() -> None:
    squared = peer("skactiveml.pool._badge")._d_2
    f, x = normal(60, 4) * 2, normal(60, 7, seed=1)
    errors = f.softmax(1) - torch.eye(4)[f.argmax(1)]
    gradients = torch.einsum("nc,nd->ncd", errors, x).flatten(1).double().numpy()
    seeds, distances = k_means_plus_plus(errors, x, 20, rng())
    assert int(seeds[0]) == squared(gradients, []).argmax()
    assert float(distances[0]) ** 2 == pytest.approx(squared(gradients, []).max(), rel=1e-4)
    nearest = np.full(60, np.inf)
    for before, new, distance in zip(seeds[:-1], seeds[1:], distances[1:], strict=True):
        nearest = squared(gradients, [int(before)], nearest)
        assert float(distance) ** 2 == pytest.approx(nearest[new], rel=1e-3)


def test_balls_cover_what_those_of_scikit_activeml_cover() -> None:
    pool = peer("skactiveml.pool")
    rows, centres = normal(200, 2), normal(5, 2, seed=1)
    picks, added = cover(rows, centres, 12, kernel=lambda squared: (squared <= 0.3**2).float())
    x, y = partly_labelled(rows, centres)
    for pick, covered in zip(picks.tolist(), added.tolist(), strict=True):
        _, utilities = pool.ProbCover(n_classes=2, deltas=[0.3], random_state=0).query(
            x, y, return_utilities=True
        )
        assert utilities[0, pick] == np.nanmax(utilities) == covered, (
            "ties are broken at random there"
        )
        y[pick] = 0
    assert added[-1] > 1


@pytest.mark.parametrize("centres", [0, 5])
def test_herding_picks_what_scikit_activeml_picks(centres: int) -> None:
    pool = peer("skactiveml.pool")
    rows, labelled = unit(normal(200, 4)), unit(normal(centres, 4, seed=1))
    picks, added = cover(rows, labelled, 15, kernel=lambda squared: gaussian(squared, 0.5))
    peers = pool.MaxHerding(metric_dict={"gamma": 1 / (2 * 0.5**2)}, random_state=0)
    found, utilities = peers.query(
        *partly_labelled(rows, labelled), batch_size=15, return_utilities=True
    )
    assert picks.tolist() == found.tolist()
    np.testing.assert_allclose(added.numpy(), 200 * np.nanmax(utilities, axis=1), rtol=1e-3)


def test_batch_bald_picks_what_the_authors_code_picks(probabilities: Tensor) -> None:
    authors = peer("batchbald_redux.batchbald")
    order, gains = batch_bald(probabilities, 5, 10_000, rng())
    found = authors.get_batchbald_batch(
        probabilities.transpose(0, 1).log(), 5, 10_000, dtype=torch.double
    )
    assert order.tolist() == found.indices
    np.testing.assert_allclose(gains.cumsum(0).numpy(), found.scores, rtol=1e-5)


def test_sampled_batch_bald_is_as_large_as_that_of_the_authors_code(probabilities: Tensor) -> None:
    authors = peer("batchbald_redux.batchbald")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = authors.get_batchbald_batch(
            probabilities.transpose(0, 1).log(), 8, 2000, dtype=torch.double
        )
    _, gains = batch_bald(probabilities, 8, 2000, rng())
    np.testing.assert_allclose(gains.cumsum(0).numpy(), found.scores, rtol=0.05)


def test_mutual_information_is_that_of_the_authors_code(probabilities: Tensor) -> None:
    authors = peer("batchbald_redux.batchbald")
    log_p = probabilities.transpose(0, 1).log()
    want = authors.compute_entropy(log_p) - authors.compute_conditional_entropy(log_p)
    torch.testing.assert_close(mutual_information(probabilities.log()), want)
    found = authors.get_bald_batch(log_p, 10)
    assert (
        mutual_information(probabilities.log()).argsort(descending=True)[:10].tolist()
        == found.indices
    )


def test_mutual_information_is_that_of_baal(probabilities: Tensor) -> None:
    heuristics = peer("baal.active.heuristics")
    images_classes_networks = probabilities.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(
        mutual_information(probabilities.log()).numpy(),
        heuristics.BALD().compute_score(images_classes_networks),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        entropy(probabilities.mean(0).log()).numpy(),
        heuristics.Entropy().compute_score(images_classes_networks),
        rtol=1e-6,
    )
