"""Learn from the features of all images, after every answer and within milliseconds."""

import threading
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dfal.attacks import LinearHead
from dfal.backbones.base import Backbone
from dfal.backbones.classifier import FeatureClassifier
from dfal.data.feature_cache import FeatureCache
from dfal.data.image_array import CHUNK, Images
from dfal.data.image_folder import Folder
from dfal.labelling.settings import AUTO
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.semisupervised.learner import FewLabelLearner, Learned
from dfal.semisupervised.neighbourhood import Neighbourhood
from dfal.strategies import named, with_candidates
from dfal.strategies.closed_form import in_closed_form

MIN_IMAGES = 48
"""Images with features from which a first neighbourhood is computed, where there are so many."""
GROWTH = 1.05
"""Factor of the images with features from which the new ones are taken in."""


@runtime_checkable
class FeatureSource(Protocol):
    """Features of a folder's images, as far as they are there."""

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images have features."""

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        """Return the features of some images."""


class PixelFeatures:
    """Features that are computed from the decoded images of a folder as they are needed.

    Args:
        folder: the images.
        network: computes them of images of the folder's shape, in little time.
    """

    def __init__(self, folder: Folder, network: nn.Module):
        self._folder, self._network = folder, network

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images are decoded."""
        return self._folder.ready()

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        """Return the pixels of some images."""
        images = self._folder.images
        with torch.inference_mode():
            chunks = [
                self._network(images.take(chunk)).half()
                for chunk in torch.from_numpy(indices).split(CHUNK)
            ]
        out: Float[np.ndarray, "m d"] = torch.cat(chunks).numpy()
        return out


class FeatureLearner:
    """Makes the networks of a session from features: a linear layer each.

    The neighbourhood of the images is computed in a thread, again whenever twice as many have
    features and once all have. Images of the hold-out are in none: nothing is learnt from them.

    Args:
        session: whose settings hold.
        folder: its images.
        backbone: that computes the features.
        source: of the features.

    Attributes:
        name: the backbone's.
    """

    is_instant, is_slow = True, False

    def __init__(self, session: Session, folder: Folder, backbone: Backbone, source: FeatureSource):
        self.name = backbone.name
        self._session, self._folder = session, folder
        self._backbone, self._source = backbone, source
        self._few: FewLabelLearner | None = None
        self._latest: tuple[Int64[np.ndarray, m], Learned] | None = None
        self._members = np.empty(0, np.int64)
        self._z = np.zeros((len(folder), 1), np.float32)
        self._has_z = np.zeros(len(folder), bool)
        self._building: _Building | None = None

    @property
    def members(self) -> Int64[np.ndarray, "m"]:
        """Return the images that are learnt from, in the order of the learner's rows."""
        return self._members

    @property
    def is_ready(self) -> bool:
        """Return whether there is a neighbourhood to learn in."""
        return self._few is not None

    @property
    def is_building(self) -> bool:
        """Return whether a neighbourhood is being computed."""
        return self._building is not None and self._building.is_alive()

    @property
    def neighbourhood_size(self) -> int:
        """Return how many images are in the neighbourhood."""
        return 0 if self._few is None else len(self._few.neighbourhood.rows)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images a network can take."""
        return self._has_z.copy()

    def images(self) -> Images:
        """Return the rows of all images in the space of the neighbourhood."""
        return Images(self._z)

    def refresh(self, state: State) -> None:
        """Take over the features that are new.

        Raises:
            DfalError: where the neighbourhood cannot be computed.
        """
        count = len(self._folder)
        ready = self._source.ready() & self._folder.ready()
        teach = ready & ~state.hold_out[:count]
        if self._building is None and self._is_worth_building(teach, ready):
            self._building = _Building(self._backbone, self._source, np.flatnonzero(teach))
            self._building.start()
        if self._building is not None and not self.is_building:
            building, self._building = self._building, None
            self._adopt(building.result(), building.images, len(state.classes))
        if self._few is not None:
            self._append(self._for_classes(len(state.classes)), ready, teach)

    def _is_worth_building(
        self, teach: Bool[np.ndarray, "n"], ready: Bool[np.ndarray, "n"]
    ) -> bool:
        images, before = int(teach.sum()), self.neighbourhood_size
        is_all = len(ready) - int(ready.sum()) <= len(self._session.state.unreadable)
        enough = max(2 * before, MIN_IMAGES)
        return images >= 2 and (images >= enough or (is_all and images > before))

    def _adopt(
        self, neighbourhood: Neighbourhood, images: Int64[np.ndarray, "m"], classes: int
    ) -> None:
        self._z = np.zeros((len(self._folder), neighbourhood.rows.shape[1]), np.float32)
        self._has_z[:] = False
        self._z[images], self._has_z[images] = neighbourhood.rows, True
        self._members = images
        self._begin(neighbourhood, classes)

    def _begin(self, neighbourhood: Neighbourhood, classes: int) -> FewLabelLearner:
        joined = len(neighbourhood.rows)
        self._few, self._latest = FewLabelLearner(neighbourhood, max(classes, 1)), None
        self._members, later = self._members[:joined], self._members[joined:]
        self._has_z[later] = False  # they are appended again
        return self._few

    def _append(
        self, few: FewLabelLearner, ready: Bool[np.ndarray, "n"], teach: Bool[np.ndarray, "n"]
    ) -> None:
        """Give the images a row whose features came after the neighbourhood was computed."""
        new = np.flatnonzero(ready & ~self._has_z)
        there = int(self._has_z.sum())
        if not len(new) or (there + len(new) < GROWTH * there and not ready.all()):
            return
        for images in (new[teach[new]], new[~teach[new]]):
            for start in range(0, len(images), CHUNK):
                chunk = images[start : start + CHUNK]
                features = self._source.rows(chunk)
                self._z[chunk], self._has_z[chunk] = few.neighbourhood.space(features), True
                if teach[chunk[0]]:
                    few.append(features)
                    self._members = np.concatenate([self._members, chunk])

    def fit(self, pool: Pool, classes: int, seed: int, **_: object) -> nn.Module:
        """Learn from the labels of a pool, and return the linear layer.

        Nothing here is random, kept for a fold or long enough to be ended.
        """
        return self.learn(pool.labels.numpy(), classes).head.layer()

    def learn(self, labels: Int64[np.ndarray, "n"], classes: int) -> Learned:
        """Learn from labels.

        Args:
            labels: of all images; below 0 where there is none to learn from.
            classes: how many there are.
        """
        few, own = self._for_classes(classes), labels[self._members]
        if self._latest is None or not np.array_equal(self._latest[0], own):
            self._latest = own, few.update(own)
        return self._latest[1]

    def _for_classes(self, classes: int) -> FewLabelLearner:
        """Return what learns so many classes.

        Raises:
            ValueError: before `is_ready`.
        """
        if self._few is None:
            raise ValueError("there is no neighbourhood to learn in yet")
        if self._few.classes == max(classes, 1):
            return self._few
        return self._begin(self._few.neighbourhood, classes)

    def full_network(self, model: nn.Module, classes: int) -> nn.Module:
        """Return the network that takes images in the backbone's size."""
        space = self._for_classes(classes).neighbourhood.space
        return FeatureClassifier.of(self._backbone.network, space, cast(nn.Linear, model))

    @property
    def network_name(self) -> str:
        """Return the name of the network for its model card."""
        return self.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the images that `full_network` takes."""
        return self._backbone.image

    def strategy(self) -> Strategy:
        """Return the session's strategy, with the distance to the boundary in closed form."""
        settings = self._session.settings
        strategy = named(settings.strategy_on(self.name))
        if settings.strategy != AUTO:
            strategy = with_candidates(strategy, settings.candidates)
        return in_closed_form(strategy)

    def attack(self) -> Attack:
        """Return what measures the distance of a row to the decision boundary."""
        return LinearHead()

    def logits(
        self, model: nn.Module, images: Images, indices: Int64[np.ndarray, "n"]
    ) -> Float[Tensor, "n c"]:
        """Return the logits of the images at some indices; for no image, two columns."""
        if not len(indices):
            return torch.empty(0, 2)
        with torch.inference_mode():
            out: Float[Tensor, "n c"] = model(images.take(torch.from_numpy(indices)))
        return out.clone()

    def untrained(self, classes: int) -> nn.Module:
        """Return a linear layer of zeros, for strategies that choose before there is a label."""
        layer = nn.Linear(self._z.shape[1], max(classes, 2))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer


class _Building(threading.Thread):
    """Computes a neighbourhood beside everything else."""

    def __init__(self, backbone: Backbone, source: FeatureSource, images: Int64[np.ndarray, "m"]):
        super().__init__(name="neighbourhood", daemon=True)
        self.images = images
        self._backbone, self._source = backbone, source
        self._result: Neighbourhood | Exception | None = None

    def run(self) -> None:
        try:
            self._result = self._backbone.neighbourhood(self._source.rows(self.images))
        except Exception as error:
            self._result = error

    def result(self) -> Neighbourhood:
        """Return the neighbourhood.

        Raises:
            Exception: what computing it raised.
        """
        if isinstance(self._result, Exception):
            raise self._result
        return cast(Neighbourhood, self._result)


class CachedFeatures:
    """The features of a backbone, as far as a cache has them.

    Args:
        cache: of the folder's images.
    """

    def __init__(self, cache: FeatureCache):
        self._cache = cache

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images have features."""
        return self._cache.ready()

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        """Return the features of some images, in half precision."""
        out: Float[np.ndarray, "m d"] = self._cache.map[indices]
        return out


class JoinedFeatures:
    """Features of two sources beside each other.

    Args:
        first, second: the sources.
    """

    def __init__(self, first: FeatureSource, second: FeatureSource):
        self._first, self._second = first, second

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which images have features of both."""
        ready: Bool[np.ndarray, n] = self._first.ready() & self._second.ready()
        return ready

    def rows(self, indices: Int64[np.ndarray, "m"]) -> Float[np.ndarray, "m d"]:
        """Return the features of some images, in half precision."""
        rows = [self._first.rows(indices), self._second.rows(indices)]
        out: Float[np.ndarray, "m d"] = np.concatenate(rows, axis=1)
        return out
