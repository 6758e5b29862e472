"""What a final model can be: a backbone with a linear layer, or a network from scratch.

These are trained in two ways: quickly, as while people label, and thoroughly, the whole network
with augmentation. A network from scratch may also learn from the images without a label.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.backbones.base import Backbone
from dfal.backbones.classifier import FeatureClassifier
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.labelling.learning.final_data import (
    FORWARD_BATCH,
    DecodedImages,
    Known,
    Proceed,
    compute_features,
    decode,
    stream_features,
)
from dfal.labelling.learning.learner import ignore
from dfal.labelling.settings import AUTO, UNLABELLED_TRAINING
from dfal.nn.augmentation import Augmentation
from dfal.nn.augmentation_choice import suited_augmentation
from dfal.nn.custom_fit import CustomFit
from dfal.nn.fine_tuning import FineTuning, fine_tune
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.nn.training import fit
from dfal.nn.training_settings import Training
from dfal.pool import LabelledData
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed, fork_rng
from dfal.semisupervised.learner import FewLabelLearner

SCRATCH = FineTuning(learning_rate=2e-3, smoothing=0.0, keep_statistics=False)
"""How a network from scratch is trained thoroughly."""
SCRATCH_STEPS = 1500
"""Steps of that training, about."""
EVERY_IMAGE_STEPS = 1500
"""Steps of a training on images without a label, too."""

Places = Int64[np.ndarray, "m"]
"""Positions in the labelled images of a store, `Known.train`."""
Step = Callable[[int, int], None]
"""Is told the step of a training, and how many there are."""


@runtime_checkable
class FinalLearner(Protocol):
    """Trains networks on some of the labelled images.

    Attributes:
        name: of the backbone; "none" for a network from scratch.
        network_name: for the model card.
        image: channels, height and width that its networks take.
        quick_name, thorough_name: the two ways, in words.
        can_train_thoroughly: whether there is the second one.
        is_slow: whether quick training takes minutes, too.
        unlabelled: images without a label that it learns from.
        augmentation: of quick training.
    """

    name: str
    network_name: str
    image: tuple[int, int, int]
    quick_name: str
    thorough_name: str
    can_train_thoroughly: bool
    is_slow: bool
    unlabelled: int
    augmentation: str

    def train_quickly(self, places: Places, step: Step = ignore) -> nn.Module:
        """Train a network as while people label."""

    def train_thoroughly(self, places: Places, augment: Augmentation, step: Step) -> nn.Module:
        """Train a whole network with augmentation."""

    def logits(
        self, network: nn.Module, places: Places, *, mirrored: bool = False
    ) -> Float[Tensor, "m c"]:
        """Return the logits of labelled images, or of their mirror images."""


@dataclass
class BackboneLearner:
    """A backbone with a linear layer, trained on labels spread over all images.

    Args:
        backbone: on its device.
        known: the labels.
        decoded: the labelled images.
        epochs: of fine-tuning.
        seed: of fine-tuning.
        proceed: see `Proceed`.
    """

    backbone: Backbone
    known: Known
    decoded: DecodedImages
    epochs: int
    seed: int
    proceed: Proceed

    def __post_init__(self) -> None:
        self.is_slow, self.augmentation = False, "none"
        self.unlabelled = len(self.known.unlabelled)
        self.name = self.network_name = self.backbone.name
        self.image = self.backbone.image
        self.quick_name = f"a linear layer on {self.name}"
        self.thorough_name = f"{self.name}, fine-tuned"
        network = self.backbone.network
        self.can_train_thoroughly = _is_trainable(self.backbone)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._features = compute_features(network, self.decoded, self.known.train, self.proceed)
        self._unlabelled = np.empty((0, self._features.shape[1]), np.float32)
        if len(self.known.unlabelled):
            self._unlabelled = stream_features(
                network, self.known, self.known.unlabelled, self.backbone.image, self.proceed
            )

    def train_quickly(self, places: Places, step: Step = ignore) -> FeatureClassifier:
        """Train the linear layer."""
        features = np.concatenate([self._features[places], self._unlabelled])
        labels = np.full(len(features), UNKNOWN)
        labels[: len(places)] = self.known.train_labels[places]
        neighbourhood = self.backbone.neighbourhood(features)
        head = FewLabelLearner(neighbourhood, len(self.known.classes)).update(labels).head
        network = FeatureClassifier.of(self.backbone.network, neighbourhood.space, head.layer())
        return network.requires_grad_(False).eval().to(self._device)

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.backbone.network.parameters()), torch.device("cpu"))

    def train_thoroughly(self, places: Places, augment: Augmentation, step: Step) -> nn.Module:
        """Train the linear layer, and then everything."""
        quick = self.train_quickly(places)
        body = self.backbone.trainable()
        network = FeatureClassifier(body, quick.mean, quick.projection, quick.head)
        network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return fine_tune(
            network,
            self.decoded.images,
            self.decoded.rows(self.known.train[places]),
            torch.from_numpy(self.known.train_labels[places]),
            augment=augment,
            settings=FineTuning(epochs=self.epochs),
            seed=self.seed,
            proceed=step,
        )

    def logits(
        self, network: nn.Module, places: Places, *, mirrored: bool = False
    ) -> Float[Tensor, "m c"]:
        """Return the logits of labelled images; features that are known are not computed again."""
        images = self.known.train[places]
        if not isinstance(network, FeatureClassifier) or network.body is not self.backbone.network:
            return torch.from_numpy(
                compute_features(network, self.decoded, images, self.proceed, mirrored)
            )
        features = self._features[places]
        if mirrored:
            features = compute_features(network.body, self.decoded, images, self.proceed, mirrored)
        with torch.inference_mode():
            out = network.classify(torch.from_numpy(features).to(self._device))
        return out.cpu().clone()


def _is_trainable(backbone: Backbone) -> bool:
    """Return whether a backbone can be fine-tuned, and has something that can change."""
    try:
        return next(backbone.trainable().parameters(), None) is not None
    except DfalError:
        return False


@dataclass
class ScratchLearner:
    """A network from scratch, as `dfal label` trains it, or longer with augmentation.

    Args:
        network_name: one of `dfal.nn.NETWORKS`, or `package.module:function`.
        image: channels, height and width that it takes.
        known: the labels.
        decoded: the labelled images.
        training: how the session trains it.
        seed: of the weights and of training.
        device: where it is trained.
        own_fit: the user's own training, which takes the place of both ways.
    """

    network_name: str
    image: tuple[int, int, int]
    known: Known
    decoded: DecodedImages
    training: Training
    seed: int
    device: str
    own_fit: CustomFit | None = None

    def __post_init__(self) -> None:
        self.name, self.can_train_thoroughly = "none", self.own_fit is None
        self.is_slow, self.unlabelled, self.augmentation = False, 0, "none"
        self.quick_name = f"{self.network_name} from scratch"
        if self.own_fit is not None:
            self.quick_name = f"{self.network_name}, trained by {self.own_fit.name}"
        self.thorough_name = f"{self.quick_name}, trained longer"

    def _build(self) -> nn.Module:
        return build(self.network_name, self.image, len(self.known.classes))

    def train_quickly(self, places: Places, step: Step = ignore) -> nn.Module:
        """Train a network as the session does."""
        data = self._data(places)
        seed = derive_seed(self.seed, 0, "final")
        if self.own_fit is not None:
            return self.own_fit(self._build, data, seed)
        return fit(self._build, data, self.training, seed)

    def _data(self, places: Places) -> LabelledData:
        images = self.decoded.images.take(self._rows(places), self.device)
        labels = torch.from_numpy(self.known.train_labels[places])
        return LabelledData(images, labels.to(self.device), torch.arange(len(places)))

    def train_thoroughly(self, places: Places, augment: Augmentation, step: Step) -> nn.Module:
        """Train a new network for many steps, with augmentation."""
        with fork_rng(derive_seed(self.seed, 0, "final"), self.device):
            network = self._build().to(self.device)
        epochs = max(1, round(SCRATCH_STEPS / SCRATCH.steps(len(places)) * SCRATCH.epochs))
        return fine_tune(
            network,
            self.decoded.images,
            self._rows(places),
            torch.from_numpy(self.known.train_labels[places]),
            augment=augment,
            settings=replace(SCRATCH, epochs=epochs),
            seed=self.seed,
            proceed=step,
        )

    def logits(
        self, network: nn.Module, places: Places, *, mirrored: bool = False
    ) -> Float[Tensor, "m c"]:
        """Return the logits of labelled images."""
        chunks = []
        for rows in self._rows(places).split(FORWARD_BATCH):
            images = self.decoded.images.take(rows)
            chunks.append(predict(network, images.flip(3) if mirrored else images).cpu())
        return torch.cat(chunks)

    def _rows(self, places: Places) -> Tensor:
        return self.decoded.rows(self.known.train[places])


@dataclass
class ConsistencyLearner(ScratchLearner):
    """A network from scratch that learns from the images without a label, too.

    Args:
        augment: random changes of the images; "auto" for what suits the labels.
        proceed: see `Proceed`.
    """

    augment: str = AUTO
    proceed: Proceed = lambda activity, done, total: None

    @classmethod
    def beside(cls, other: ScratchLearner, augment: str, proceed: Proceed) -> "ConsistencyLearner":
        """Return what trains the same network on the same labels.

        Args:
            other: the one that learns from labels alone.
            augment: see the class.
            proceed: the same.
        """
        shared = {field.name: getattr(other, field.name) for field in fields(ScratchLearner)}
        return cls(**shared, augment=augment, proceed=proceed)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.quick_name = f"{self.quick_name}, on images without a label, too"
        self.is_slow, self.can_train_thoroughly = True, False
        every = np.concatenate([self.known.train, self.known.pool])
        decoded = decode(self.known, every, self.image, self.proceed)
        there = [place for place, image in enumerate(every.tolist()) if image not in decoded.gone]
        self._teaching = Images(decoded.images, rows=np.array(there))
        self.unlabelled = len(there) - len(self.known.train)

    def train_quickly(self, places: Places, step: Step = ignore) -> nn.Module:
        """Train a network on the labels of some images, and the pixels of all."""
        seed = derive_seed(self.seed, 0, "final")
        data = self._data(places)
        if self.augment == AUTO:
            self.augment = suited_augmentation(fit, self._build, data, UNLABELLED_TRAINING, seed)
        self.augmentation = self.augment
        training = replace(UNLABELLED_TRAINING, steps=EVERY_IMAGE_STEPS, augment=self.augment)
        return fit(self._build, data, training, seed, unlabelled=self._teaching, proceed=step)
