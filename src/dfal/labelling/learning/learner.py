"""Make the networks of a session, with the same training, strategies and attacks as `dfal run`.

Where everything but a network's last linear layer is frozen, the images are replaced by their
features, once: training a linear layer takes little time, and the distance to its boundary has a
closed form.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dfal.attacks import DeepFool, LinearHead
from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError
from dfal.labelling.photos import Photos
from dfal.labelling.settings import NO_BACKBONE
from dfal.labelling.store.session import Session
from dfal.nn.features import features
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.nn.training import fit
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.seeding import derive_seed, fork_rng
from dfal.strategies import named, with_candidates
from dfal.strategies.closed_form import in_closed_form


class Learner:
    """Makes the networks of a session.

    Args:
        session: whose settings hold.
        photos: its images.
    """

    def __init__(self, session: Session, photos: Photos):
        self._session, self._photos = session, photos
        self._features: Float[np.ndarray, "n d"] | None = None
        self._has_features = np.zeros(len(photos.folder), bool)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which of the session's images a network can take."""
        ready = self._photos.ready()
        if self._features is not None:
            count = min(len(ready), len(self._has_features))
            ready[:count] &= self._has_features[:count]
        return ready

    def images(self) -> Images:
        """Return the images, or their features where only a last linear layer is trained.

        Raises:
            DfalError: where features are needed and no image is decoded.
        """
        images = self._photos.folder.images
        network = self._frozen_network()
        if network is None:
            return images
        new = np.flatnonzero(self._photos.folder.ready() & ~self._has_features)
        for indices in torch.from_numpy(new).split(CHUNK):
            chunk = features(network, images.take(indices)).cpu().numpy()
            if self._features is None:
                self._features = np.zeros((len(images), chunk.shape[1]), np.float32)
            self._features[indices.numpy()] = chunk
            self._has_features[indices.numpy()] = True
        if self._features is None:
            raise DfalError("no image is decoded yet")
        return Images(self._features)

    def _frozen_network(self) -> nn.Module | None:
        """Return the network if all but its last linear layer is frozen, else None."""
        network = self._build(2)
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        free = {parameter for parameter in network.parameters() if parameter.requires_grad}
        frozen = any(not parameter.requires_grad for parameter in network.parameters())
        return network if frozen and layers and free <= set(layers[-1].parameters()) else None

    def _build(self, classes: int) -> nn.Module:
        """Return a network of this session: its frozen part is the same each time."""
        settings = self._session.settings
        h, w, c = self._photos.folder.shape
        with fork_rng(derive_seed(settings.seed, 0, "frozen")):
            return build(settings.model, (c, h, w), classes).to(settings.device)

    def fit(self, pool: Pool, classes: int, seed: int) -> nn.Module:
        """Train a network, or only its last layer, on the labelled data of a pool.

        Args:
            pool: of `images()`.
            classes: how many the network tells apart.
            seed: of its weights and of the order of the images.

        Returns:
            The network, or the layer, that takes `images()`.
        """
        settings = self._session.settings
        h, w, c = self._photos.folder.shape

        def make() -> nn.Module:
            if self._features is not None:
                return nn.Linear(self._features.shape[1], classes)
            return build(settings.model, (c, h, w), classes)

        return fit(make, pool.labelled_data(settings.device), settings.training, seed)

    def full_network(self, model: nn.Module, classes: int) -> nn.Module:
        """Return the network that takes images, where `fit` trained only its last layer."""
        if self._features is None:
            return model
        network = self._build(classes)
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        last.load_state_dict(model.state_dict(), strict=False)
        return network

    def strategy(self) -> Strategy:
        """Return the session's strategy.

        Where only the last layer is trained, the distance to the boundary is the closed form.
        """
        settings = self._session.settings
        strategy = with_candidates(named(settings.strategy_on(NO_BACKBONE)), settings.candidates)
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
