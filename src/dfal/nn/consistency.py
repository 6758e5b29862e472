"""Train on unlabelled images: pseudo-labels of weak looks, and virtual adversarial training."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from dfal.data.image_array import Images
from dfal.nn.augmentation import Augmentation
from dfal.nn.training_settings import Training
from dfal.nn.training_steps import Gradients, LabelCheck, shuffled_cycles

PROBE = 0.1
"""Length of the random change at which vat takes its gradient (ξ)."""
MEMORY = 0.99
"""Decay of the running mean of the predicted class probabilities."""


class ConsistencyStep:
    """A step on labelled images and as many unlabelled ones as the settings say.

    Its loss is the mean cross-entropy of strong looks of the labelled images, and of unlabelled
    images x

    - pseudo-labels: that of a strong look of x with the class of a weak look as its label, where
      that class has at least the `threshold`; after the probabilities were divided by their running
      mean, so that no class takes over (Sohn et al. 2020; Berthelot et al. 2020);
    - vat: CE(p, f(x + r)), where p = softmax f(x) of the weak look x is fixed, and r, of length
      `radius`, points along the gradient of CE(p, f(x + d)) at a random d (Miyato et al. 2018).

    Pseudo-labels wait until every class has a label: a class without one would be given to others,
    with confidence.

    Args:
        gradients: of the network.
        images: all images that teach without a label.
        augment: makes the looks.
        settings: how the network is trained.
        labels: of the labelled images.
        label_check: compares them with the network's classes.
        rng: a generator on the CPU: decides order, looks and d.
    """

    def __init__(
        self,
        gradients: Gradients,
        *,
        images: Images,
        augment: Augmentation,
        settings: Training,
        labels: Int64[Tensor, "l"],
        label_check: LabelCheck,
        rng: torch.Generator,
    ):
        self._gradients, self._images, self._augment = gradients, images, augment
        self._settings, self._rng, self._label_check = settings, rng, label_check
        self._batches = shuffled_cycles(len(images), settings.unlabelled_batch, rng=rng)
        self._labels = labels
        self._mean: Tensor | None = None

    def __call__(self, images: Float[Tensor, "b *image"], labels: Int64[Tensor, "b"]) -> None:
        """Add the gradient of the loss to the parameters' `.grad`.

        Raises:
            DfalError: for labels that are no classes of the network, and as the network does.
        """
        unlabelled = self._images.take(next(self._batches), images.device).to(images.dtype)
        weak = self._augment.weak(unlabelled, self._rng)
        p = self._gradients.probabilities(weak)
        self._label_check.check(p)
        looks = [images]
        targets = [F.one_hot(labels, p.shape[1]).to(p.dtype)]
        weights = [p.new_full((len(labels),), 1 / len(labels))]
        each = 1 / len(unlabelled)
        if self._settings.unlabelled != "vat":
            sure, pseudo_labels = self._pseudo_labels(p)
            looks.append(unlabelled[sure])
            targets.append(F.one_hot(pseudo_labels, p.shape[1]).to(p.dtype))
            weights.append(p.new_full((len(pseudo_labels),), each))
        looks = [self._augment.strong(torch.cat(looks), self._rng)]
        if self._settings.unlabelled != "pseudo-labels":
            looks.append(weak + self._adversarial(weak, p))
            targets.append(p)
            weights.append(p.new_full((len(p),), each))
        self._gradients.add(torch.cat(looks), torch.cat(targets), torch.cat(weights))

    def _pseudo_labels(
        self, p: Float[Tensor, "n c"]
    ) -> tuple[Int64[Tensor, "m"], Int64[Tensor, "m"]]:
        """Return which images have a pseudo-label, and the pseudo-labels."""
        batch_mean = p.mean(0)
        self._mean = batch_mean if self._mean is None else self._mean.lerp(batch_mean, 1 - MEMORY)
        has_label = torch.bincount(self._labels, minlength=p.shape[1]) > 0
        aligned = p / self._mean.clamp_min(1e-6)
        largest, classes = (aligned / aligned.sum(1, keepdim=True)).max(1)
        is_sure = (largest >= self._settings.threshold) & bool(has_label.all())
        return is_sure.nonzero().squeeze(1), classes[is_sure]

    def _adversarial(
        self, images: Float[Tensor, "n *image"], p: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n *image"]:
        """Return the change r of each image."""
        noise = torch.randn(images.shape, generator=self._rng).to(images.device, images.dtype)
        slope = self._gradients.of_images(images + PROBE * unit(noise), p)
        return self._settings.radius * unit(slope)


def unit(x: Float[Tensor, "n *image"]) -> Float[Tensor, "n *image"]:
    """Return each row with length 1, and 0 as 0."""
    lengths = x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    rows: Tensor = x / lengths.clamp_min(torch.finfo(x.dtype).tiny)
    return rows
