"""What networks in step are trained on: looks at their images, and at images without a label.

The step is that of `dfal.nn.consistency`, of all slots at once and without shapes that depend on
what is computed: a pseudo-label that is not sure has no weight.
"""

import torch
from jaxtyping import Bool, Float, Int32, Int64, Shaped
from torch import Tensor

from dfal.nn import AUGMENTATIONS
from dfal.nn.augmentation import DrawnChange, of_type
from dfal.nn.consistency import MEMORY, PROBE, unit
from dfal.nn.keyed_random import normal, uniform
from dfal.nn.stacked_network import Batch, StackedNetwork, UnstackableError, Weights
from dfal.nn.training_settings import Training

Pixels = Shaped[Tensor, "n *image"]
"""Images: uint8, or float32 with values in [0, 1]."""
WEAK, STRONG, NOISE = 2**29, 2**30, -(2**31)
"""The first of the numbers (`dfal.nn.keyed_random`) of the draws of weak looks, of strong looks and
of random directions. The numbers of dropout begin at 0."""


def drawn_changes(augment: str) -> tuple[DrawnChange, DrawnChange] | None:
    """Return the strong and the weak look of an augmentation.

    None for one that draws its numbers itself, as the user's own do.

    Args:
        augment: its name.
    """
    if augment not in AUGMENTATIONS:
        return None
    strong, weak = AUGMENTATIONS[augment].strong, AUGMENTATIONS[augment].weak
    if isinstance(strong, DrawnChange) and isinstance(weak, DrawnChange):
        return strong, weak
    return None


class Looks:
    """Changes images of all slots, each by draws of its own.

    Args:
        change: an augmentation's.
        first: the first number of its draws.
        image: one, on the device of all.
    """

    def __init__(self, change: DrawnChange, first: int, image: Float[Tensor, "*image"]):
        shape = tuple(image.shape)
        self._ranges, self._first = change.ranges(shape), first
        self._apply = change.prepare(shape, image.device)

    def __call__(
        self, images: Float[Tensor, "s n *image"], keys: Int32[Tensor, "s 2"]
    ) -> Float[Tensor, "s n *image"]:
        """Return changed images.

        Args:
            images: of each slot.
            keys: of the step of each slot.
        """
        if not self._ranges:
            return images
        slots, count = images.shape[:2]
        end = self._first + count * len(self._ranges)
        numbers = torch.arange(self._first, end, dtype=torch.int32, device=images.device)
        draws = uniform(keys, numbers).view(slots * count, len(self._ranges)).unbind(1)
        drawn = {
            name: each.at(draw)
            for (name, each), draw in zip(self._ranges.items(), draws, strict=True)
        }
        changed = self._apply(images.flatten(0, 1), of_type(drawn, images))
        return changed.view(images.shape)


class StackedLooks:
    """Makes of the mini-batches of all slots what their networks are trained on.

    Args:
        network: the networks.
        settings: how they are trained.
        slots: how many there are.
        image: one of the labelled ones, whose type and device all others have.
        unlabelled: the images without a label, where such are trained on, as `pixels` returns them.

    Raises:
        UnstackableError: for an augmentation that draws its numbers itself, and without images that
            the settings ask for.
    """

    def __init__(
        self,
        network: StackedNetwork,
        settings: Training,
        slots: int,
        image: Float[Tensor, "*image"],
        unlabelled: Pixels | None,
    ):
        if (changes := drawn_changes(settings.augment)) is None:
            raise UnstackableError(f"the augmentation {settings.augment} draws its numbers itself")
        if settings.learns_consistency and unlabelled is None:
            raise UnstackableError("the images without a label are not there")
        self._strong, self._weak = Looks(changes[0], STRONG, image), Looks(changes[1], WEAK, image)
        self._network, self._settings, self._unlabelled = network, settings, unlabelled
        self._classes = torch.arange(network.classes, device=image.device)
        self._mean = image.new_zeros(slots, network.classes)
        self._has_mean = torch.zeros(slots, 1, dtype=torch.bool, device=image.device)
        self._has_all_classes = torch.zeros_like(self._has_mean)

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Return what a step changes."""
        return self._mean, self._has_mean

    def load(self, slot: int, labels: Int64[Tensor, "l"]) -> None:
        """Begin a training in a slot.

        Args:
            slot: which.
            labels: of the images that it is trained on.
        """
        self._has_mean[slot] = False
        self._has_all_classes[slot] = torch.isin(self._classes, labels).all()

    def __call__(
        self,
        vectors: Float[Tensor, "s p"],
        fixed: Weights,
        batch: Batch,
        rows: Int64[Tensor, "s u"],
        keys: Int32[Tensor, "s 2"],
    ) -> Batch:
        """Return strong looks of the labelled images, and looks of unlabelled ones with targets.

        Args:
            vectors: the trained parameters of the networks.
            fixed: the other parameters and the buffers.
            batch: the labelled images.
            rows: of the images without a label.
            keys: decide the looks.
        """
        if self._unlabelled is None:
            return batch._replace(images=self._strong(batch.images, keys))
        images = _taken(self._unlabelled, rows, batch.images.dtype)
        weak = self._weak(images, keys)
        p = self._network.probabilities(vectors, fixed, weak)
        is_trained = batch.weights.sum(1, keepdim=True) > 0
        each = is_trained.to(p.dtype).expand(rows.shape) / rows.shape[1]
        looks, targets, weights = [batch.images], [batch.targets], [batch.weights]
        if self._settings.unlabelled != "vat":
            is_sure, pseudo_labels = self._pseudo_labels(p)
            looks.append(images)
            targets.append((pseudo_labels.unsqueeze(2) == self._classes).to(p.dtype))
            weights.append(each * is_sure)
        looks = [self._strong(torch.cat(looks, 1), keys)]
        if self._settings.unlabelled != "pseudo-labels":
            noise = normal(keys, NOISE, weak[0].numel()).view(weak.shape).to(weak.dtype)
            nearby = weak + PROBE * _unit(noise)
            slopes = self._network.slopes(vectors, fixed, nearby, p)
            looks.append(weak + self._settings.radius * _unit(slopes))
            targets.append(p)
            weights.append(each)
        return Batch(torch.cat(looks, 1), torch.cat(targets, 1), torch.cat(weights, 1))

    def _pseudo_labels(
        self, p: Float[Tensor, "s u c"]
    ) -> tuple[Bool[Tensor, "s u"], Int64[Tensor, "s u"]]:
        """Return which images have a pseudo-label, and the pseudo-labels."""
        batch_mean = p.mean(1)
        mean = torch.where(self._has_mean, self._mean.lerp(batch_mean, 1 - MEMORY), batch_mean)
        self._mean.copy_(mean)
        self._has_mean.fill_(True)
        aligned = p / mean.clamp_min(1e-6).unsqueeze(1)
        largest, classes = (aligned / aligned.sum(2, keepdim=True)).max(2)
        return (largest >= self._settings.threshold) & self._has_all_classes, classes


def _taken(
    pixels: Pixels, rows: Int64[Tensor, "s u"], dtype: torch.dtype
) -> Float[Tensor, "s u *image"]:
    """Return images as `Images.take` does."""
    taken = pixels.index_select(0, rows.flatten())
    images = taken.float().div_(255) if taken.dtype == torch.uint8 else taken
    return images.to(dtype).view(*rows.shape, *pixels.shape[1:])


def _unit(x: Float[Tensor, "s n *image"]) -> Float[Tensor, "s n *image"]:
    return unit(x.flatten(0, 1)).view(x.shape)
