"""Learning from features: after each answer, from images without a label too, never from the
hold-out."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int64

from dfal import backbones
from dfal.data.datasets import Dataset
from dfal.labelling.learning.feature_learner import MIN_IMAGES, FeatureLearner, PixelFeatures
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.pool import Pool
from dfal.query import UNKNOWN
from labelled import a_session, some_pngs


class Partial:
    """Features of which only some are there."""

    def __init__(self, source: PixelFeatures, n: int):
        self.there = np.zeros(n, bool)
        self._source = source

    def ready(self) -> Bool[np.ndarray, "n"]:
        return self.there.copy()

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        return self._source.rows(indices)


@pytest.fixture
def begun(tmp_path: Path, digits: Dataset) -> Iterator[tuple[Session, Photos, dict[str, int]]]:
    truth = some_pngs(tmp_path / "photos", digits, 200)
    with a_session(tmp_path / "photos", backbone="pixels") as (session, photos):
        for _ in photos.folder.decode():
            pass
        yield session, photos, truth


def a_learner(session: Session, photos: Photos) -> tuple[FeatureLearner, Partial]:
    h, w, c = photos.folder.shape
    backbone = backbones.load("pixels", (c, h, w))
    source = Partial(PixelFeatures(photos.folder, backbone.network), len(photos.folder))
    return FeatureLearner(session, photos.folder, backbone, source), source


def refreshed(learner: FeatureLearner, session: Session) -> None:
    """Take over features until nothing changes any more."""
    size = -1
    while size != learner.neighbourhood_size or not learner.is_ready:
        size = learner.neighbourhood_size
        learner.refresh(session.state)
        time.sleep(0.05)
        while learner.is_building:
            time.sleep(0.01)
        learner.refresh(session.state)


def true_labels(session: Session, truth: dict[str, int]) -> Int64[np.ndarray, "n"]:
    return np.array([truth[path] for path in session.state.paths])


def test_the_network_of_images_says_what_the_head_says_of_their_features(
    begun: tuple[Session, Photos, dict[str, int]],
) -> None:
    session, photos, truth = begun
    learner, source = a_learner(session, photos)
    source.there[:] = True
    refreshed(learner, session)
    labels = true_labels(session, truth)
    labels[np.arange(len(labels)) % 5 > 0] = UNKNOWN
    labels[session.state.hold_out] = UNKNOWN
    pool = Pool.new(
        learner.images(), {i: label for i, label in enumerate(labels.tolist()) if label >= 0}
    )
    head = learner.fit(pool, 10, seed=0)
    network = learner.full_network(head, 10)
    everything = np.arange(len(photos.folder))
    closed = learner.logits(head, learner.images(), everything)
    with torch.no_grad():
        whole = network(photos.folder.images.take(torch.from_numpy(everything)))
    assert torch.allclose(closed, whole, atol=2e-2)  # features are kept in half precision
    right = (whole.argmax(1).numpy() == true_labels(session, truth))[labels == UNKNOWN].mean()
    assert right > 0.5, "chance is 0.1"


def test_the_hold_out_is_not_learnt_from_but_predicted(
    begun: tuple[Session, Photos, dict[str, int]],
) -> None:
    session, photos, _ = begun
    learner, source = a_learner(session, photos)
    source.there[:] = True
    refreshed(learner, session)
    hold_out = np.flatnonzero(session.state.hold_out)
    assert len(hold_out) > 20
    assert not np.isin(hold_out, learner.members).any()
    assert sorted(learner.members) == np.flatnonzero(~session.state.hold_out).tolist()
    assert learner.ready().all()
    assert np.allclose(np.linalg.norm(learner.images().array, axis=1), 1, atol=1e-5)


def test_features_that_come_later_are_taken_in(
    begun: tuple[Session, Photos, dict[str, int]],
) -> None:
    session, photos, truth = begun
    learner, source = a_learner(session, photos)
    teaching = np.flatnonzero(~session.state.hold_out)
    learner.refresh(session.state)
    assert not learner.is_ready
    source.there[teaching[:MIN_IMAGES]] = True
    refreshed(learner, session)
    assert learner.neighbourhood_size == MIN_IMAGES
    source.there[teaching[: MIN_IMAGES + 20]] = True
    refreshed(learner, session)
    assert learner.neighbourhood_size == MIN_IMAGES, "the graph grows by doubling"
    assert sorted(learner.members) == teaching[: MIN_IMAGES + 20].tolist()
    labels = np.full(len(photos.folder), UNKNOWN)
    late = teaching[MIN_IMAGES + 5]
    labels[late] = truth[session.state.paths[late]]
    before = learner.learn(np.full_like(labels, UNKNOWN), 10)
    after = learner.learn(labels, 10)
    assert before.head.weight.any() != after.head.weight.any(), "its label counts"
    source.there[teaching[: 2 * MIN_IMAGES]] = True
    refreshed(learner, session)
    assert learner.neighbourhood_size == 2 * MIN_IMAGES
    source.there[:] = True
    refreshed(learner, session)
    assert learner.neighbourhood_size == len(teaching), "all are there"


def test_a_class_that_is_added_later_is_learnt(
    begun: tuple[Session, Photos, dict[str, int]],
) -> None:
    session, photos, truth = begun
    learner, source = a_learner(session, photos)
    source.there[:] = True
    refreshed(learner, session)
    labels = true_labels(session, truth)
    labels[(labels > 1) | session.state.hold_out] = UNKNOWN
    assert learner.learn(labels, 2).head.weight.shape[0] == 2
    three = true_labels(session, truth)
    three[(three > 2) | session.state.hold_out] = UNKNOWN
    learned = learner.learn(three, 3)
    assert learned.head.weight.shape[0] == 3
    assert learner.learn(three, 3).left_out.accuracy == pytest.approx(
        learned.left_out.accuracy or -1
    )


def test_a_source_that_fails_says_so(begun: tuple[Session, Photos, dict[str, int]]) -> None:
    session, photos, _ = begun
    learner, source = a_learner(session, photos)
    source.there[:] = True

    def fails(indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        raise MemoryError("no room")

    source.rows = fails  # type: ignore[method-assign]
    with pytest.raises(MemoryError, match="no room"):
        refreshed(learner, session)
