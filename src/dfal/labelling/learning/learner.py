"""Make the networks of a session, with the same training, strategies and attacks as `dfal run`.

Where everything but a network's last linear layer is frozen, the images are replaced by their
features, once: training a linear layer takes little time, and the distance to its boundary has a
closed form.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dfal.attacks import DeepFool, LinearHead
from dfal.data.image_array import CHUNK, Images
from dfal.labelling.photos import Photos
from dfal.labelling.settings import NO_BACKBONE
from dfal.labelling.store.session import Session
from dfal.nn.custom_fit import load_fit
from dfal.nn.features import last_layer_inputs, trained_head
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.nn.training import Proceed, fit
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.query import DECLINED
from dfal.seeding import derive_seed, fork_rng
from dfal.strategies import named, with_candidates
from dfal.strategies.closed_form import in_closed_form


@dataclass(frozen=True)
class _Head:
    """The last linear layer of a network of which nothing else is trained.

    Attributes:
        name: of the layer in the network.
        features: how many numbers it takes.
        logits: how many it returns for two classes.
        bias: whether it has one.
    """

    name: str
    features: int
    logits: int
    bias: bool

    def layer(self, classes: int) -> nn.Linear:
        """Return a new layer of this kind."""
        return nn.Linear(self.features, self.logits if classes == 2 else classes, self.bias)


def _trained_head(network: nn.Module, images: Float[Tensor, "n c h w"]) -> _Head | None:
    """Return the last linear layer of a network for two classes, if nothing else is trained."""
    layer = trained_head(network, images)
    if layer is None:
        return None
    name = next(name for name, module in network.named_modules() if module is layer)
    return _Head(name, layer.in_features, layer.out_features, layer.bias is not None)


def _is_in(name: str, module: str) -> bool:
    """Return whether a tensor of a network belongs to a module, which may be all of it."""
    return not module or name.startswith(f"{module}.")


def ignore(step: int, steps: int) -> None:
    """Do nothing between steps."""


@runtime_checkable
class Learner(Protocol):
    """Makes the networks of a session from one kind of input.

    Attributes:
        name: of the backbone; "none" for a network on pixels.
        is_instant: whether a network is made in less time than an answer takes.
        is_slow: whether it takes so long that answers must be learnt from meanwhile.
    """

    name: str
    is_instant: bool
    is_slow: bool

    @property
    def is_ready(self) -> bool:
        """Return whether there is enough to learn from."""

    @property
    def network_name(self) -> str:
        """Return the name of `full_network` for its model card."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the images that `full_network` takes."""

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which of the session's images a network can take."""

    def images(self) -> Images:
        """Return all images as the networks take them."""

    def fit(
        self,
        pool: Pool,
        classes: int,
        seed: int,
        *,
        fold: int | None = None,
        proceed: Proceed = ignore,
    ) -> nn.Module:
        """Train a network of `images()` on the labelled data of a pool.

        Args:
            pool: of `images()`.
            classes: how many the network tells apart.
            seed: of all that is random.
            fold: whose labels are left out; None where none are.
            proceed: called before each step; what it raises ends the training.
        """

    def full_network(self, model: nn.Module, classes: int) -> nn.Module:
        """Return the network that takes images of `image_shape`, where `fit` made part of it."""

    def strategy(self) -> Strategy:
        """Return the session's strategy."""

    def attack(self) -> Attack:
        """Return what measures the distance of an image to the decision boundary."""

    def logits(
        self, model: nn.Module, images: Images, indices: Int64[np.ndarray, "n"]
    ) -> Float[Tensor, "n c"]:
        """Return the logits of the images at some indices; for no image, two columns."""


class PixelLearner:
    """Trains networks on pixels, from scratch, or the last layer of a network that is frozen.

    Args:
        session: whose settings hold.
        photos: its images.
    """

    name = NO_BACKBONE
    is_instant = is_slow = False
    is_ready = True

    def __init__(self, session: Session, photos: Photos):
        self._session, self._photos = session, photos
        self._features: Float[np.ndarray, "n d"] | None = None
        self._head: _Head | None = None
        self._head_is_known = False  # as long as no image is decoded
        self._has_features = np.zeros(len(photos.folder), bool)

    @property
    def network_name(self) -> str:
        """Return the name of the session's network."""
        return self._session.settings.model

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the folder's decoded images."""
        h, w, c = self._photos.folder.shape
        return c, h, w

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which of the session's images a network can take."""
        ready = self._photos.ready()
        if self._features is not None:
            count = min(len(ready), len(self._has_features))
            ready[:count] &= self._has_features[:count]
        return ready

    def images(self) -> Images:
        """Return the images, or their features where only a last linear layer is trained."""
        images = self._photos.folder.images
        new = np.flatnonzero(self._photos.folder.ready() & ~self._has_features)
        if not self._head_is_known and len(new):
            self._head = _trained_head(self._build(2), images.take(torch.from_numpy(new[:2])))
            self._head_is_known = True
        if self._head is None:
            return images
        if self._features is None:
            self._features = np.zeros((len(images), self._head.features), np.float32)
        if len(new):
            network = self._build(2)
            for indices in torch.from_numpy(new).split(CHUNK):
                rows = last_layer_inputs(network, images.take(indices)).cpu().numpy()
                self._features[indices.numpy()] = rows
                self._has_features[indices.numpy()] = True
        return Images(self._features)

    def _build(self, classes: int) -> nn.Module:
        """Return a network of this session, the same each time."""
        settings = self._session.settings
        with fork_rng(derive_seed(settings.seed, 0, "frozen")):
            return self._new(classes).to(settings.device)

    def fit(
        self,
        pool: Pool,
        classes: int,
        seed: int,
        *,
        fold: int | None = None,
        proceed: Proceed = ignore,
    ) -> nn.Module:
        """Train a network, or only its last layer, whatever the fold."""
        settings = self._session.settings

        def make() -> nn.Module:
            if self._features is not None and self._head is not None:
                return self._head.layer(classes)
            return self._new(classes)

        data = pool.labelled_data(settings.device)
        if settings.fit:
            return load_fit(settings.fit)(make, data, seed)
        training = settings.training
        if self._features is not None:  # which are computed once, from images as they are
            training = replace(training, augment="none")
        return fit(make, data, training, seed, unlabelled=teaching(pool), proceed=proceed)

    def _new(self, classes: int) -> nn.Module:
        """Return a network with random weights."""
        h, w, c = self._photos.folder.shape
        return build(self._session.settings.model, (c, h, w), classes)

    def full_network(self, model: nn.Module, classes: int) -> nn.Module:
        """Return the network that takes images, where `fit` trained only its last layer."""
        if self._features is None or self._head is None:
            return model
        network, head = self._build(classes), self._head.name
        # What is drawn after a head depends on its classes: the frozen part is that of `images`.
        frozen = self._build(2).state_dict()
        rest = {name: tensor for name, tensor in frozen.items() if not _is_in(name, head)}
        network.load_state_dict(rest, strict=False)
        network.get_submodule(head).load_state_dict(model.state_dict())
        return network

    def strategy(self) -> Strategy:
        """Return the session's strategy.

        Where only the last layer is trained, the distance to the boundary is the closed form.
        """
        settings = self._session.settings
        strategy = with_candidates(named(settings.strategy_on(self.name)), settings.candidates)
        return strategy if self._features is None else in_closed_form(strategy)

    def attack(self) -> Attack:
        """Return what measures the distance of an image to the decision boundary."""
        return DeepFool() if self._features is None else LinearHead()

    def logits(
        self, model: nn.Module, images: Images, indices: Int64[np.ndarray, "n"]
    ) -> Float[Tensor, "n c"]:
        """Return the logits of the images at some indices, in chunks; for no image, two columns."""
        if not len(indices):
            return torch.empty(0, 2)
        chunks = torch.from_numpy(indices).split(CHUNK)
        return torch.cat([predict(model, images.take(chunk)).cpu() for chunk in chunks])


def teaching(pool: Pool) -> Images:
    """Return the images whose pixels teach. Those of the hold-out measure accuracy alone."""
    is_teaching = pool.labels != DECLINED
    return Images(pool.images, rows=is_teaching.nonzero().squeeze(1).numpy())
