"""How the networks of a session are made and trained: with the same training, strategies and
attacks as those of `dfal run`.

Where everything but a network's last linear layer is frozen, the images are replaced by their
features, once: a linear layer is trained in no time, and the distance to its boundary has a closed
form.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dfal.attacks import DeepFool, LinearHead
from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.nn.features import features
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.nn.training import fit
from dfal.pool import Pool
from dfal.protocols import Attack, Strategy
from dfal.seeding import derive_seed, fork_rng
from dfal.strategies import DFAL, WithTwins, named, with_candidates


class Learner:
    """Makes the networks of a session.

    Args:
        session: whose settings hold.
        photos: its images.
    """

    def __init__(self, session: Session, photos: Photos):
        self._session, self._photos = session, photos
        self._features: Float[np.ndarray, "n d"] | None = None
        self._featured = np.zeros(len(photos.folder), bool)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Which of the session's images a network can look at."""
        ready = self._photos.ready()
        if self._features is not None:
            count = min(len(ready), len(self._featured))
            ready[:count] &= self._featured[:count]
        return ready

    def images(self) -> Images:
        """The images, or their features where these are all that a network learns from."""
        images = self._photos.folder.images
        body = self._body()
        if body is None:
            return images
        new = np.flatnonzero(self._photos.folder.ready() & ~self._featured)
        for part in torch.from_numpy(new).split(CHUNK):
            found = features(body, images.take(part)).cpu().numpy()
            if self._features is None:
                self._features = np.zeros((len(images), found.shape[1]), np.float32)
            self._features[part.numpy()] = found
            self._featured[part.numpy()] = True
        if self._features is None:
            raise DfalError("no image is decoded yet")
        return Images(self._features)

    def _body(self) -> nn.Module | None:
        """The network where everything but its last linear layer is frozen; None where more than
        that is to be trained."""
        model = self._new(2)
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        free = {parameter for parameter in model.parameters() if parameter.requires_grad}
        frozen = any(not parameter.requires_grad for parameter in model.parameters())
        return model if frozen and layers and free <= set(layers[-1].parameters()) else None

    def _new(self, classes: int) -> nn.Module:
        """A network of this session: a frozen part is the same each time."""
        settings, folder = self._session.settings, self._photos.folder
        h, w, c = folder.shape
        with fork_rng(derive_seed(settings.seed, 0, "frozen")):
            return build(settings.model, (c, h, w), classes).to(settings.device)

    def fit(self, pool: Pool, classes: int, seed: int) -> nn.Module:
        """A network, or its last layer, trained on what is labelled in a pool of `images()`."""
        settings, folder = self._session.settings, self._photos.folder
        h, w, c = folder.shape

        def make() -> nn.Module:
            if self._features is not None:
                return nn.Linear(self._features.shape[1], classes)
            return build(settings.model, (c, h, w), classes)

        return fit(make, pool.labelled_data(settings.device), settings.training, seed)

    def whole(self, model: nn.Module, classes: int) -> nn.Module:
        """The network that takes images, where only its last layer was trained."""
        if self._features is None:
            return model
        whole = self._new(classes)
        last = [layer for layer in whole.modules() if isinstance(layer, nn.Linear)][-1]
        last.load_state_dict(model.state_dict(), strict=False)
        return whole

    def strategy(self) -> Strategy:
        """The session's, with the closed form of the distance where only the last layer is
        trained."""
        settings = self._session.settings
        strategy = with_candidates(named(settings.strategy), settings.candidates)
        if self._features is not None and isinstance(strategy, DFAL | WithTwins):
            return dataclasses.replace(strategy, attack=LinearHead())
        return strategy

    def attack(self) -> Attack:
        """What measures how far inside a class an image lies."""
        return DeepFool() if self._features is None else LinearHead()

    def logits(
        self, model: nn.Module, images: Images, indices: Int64[np.ndarray, "n"]
    ) -> Float[Tensor, "n c"]:
        """Of the images at these indices, read some thousand at a time."""
        parts = torch.from_numpy(indices).split(CHUNK)
        return torch.cat([predict(model, images.take(part)).cpu() for part in parts])
