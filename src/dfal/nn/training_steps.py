"""What a step of training needs: gradients, its size, and the running mean of the weights."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.errors import DfalError
from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.inference import check_logits, differentiable_logits, logits
from dfal.nn.network_input import shape_errors
from dfal.pool import LabelledData

WARM_UP_STEPS = 50
"""Steps in which the step size rises, at most a tenth of all."""


class LabelCheck:
    """Compares labels with the network's classes, once, in the first step of a training.

    Args:
        data, validation: whose labels are compared.
    """

    def __init__(self, data: LabelledData, validation: LabelledData):
        self._data, self._checked = (data, validation), False

    def check(self, f: Tensor) -> None:
        """Check that every label is a class of the network that returned the logits f.

        Raises:
            DfalError: where one is not.
        """
        if self._checked:
            return
        classes = f.shape[1]
        for data in self._data:
            strange = ((data.labels < 0) | (data.labels >= classes)).nonzero()
            if not len(strange):
                continue
            label, image = int(data.labels[strange[0]]), int(data.source[strange[0]])
            cure = (
                f"number the classes from 0, or give the network {int(data.labels.max()) + 1}"
                " logits"
            )
            cure = "give it a class" if label < 0 else cure
            raise DfalError(
                f"image {image} has the label {label}, but the network has the classes 0 to"
                f" {classes - 1}: {cure}"
            )
        self._checked = True


Step = Callable[[Tensor, Tensor], None]
"""Adds the gradient of the loss of a mini-batch of images and labels to the parameters' `.grad`."""


def labelled_step(model: nn.Module, label_check: LabelCheck) -> Step:
    """Return a step on the mean cross-entropy, without autograd where layers can be fused."""
    layers = fast_sequential(model)
    return _fused_step(layers, label_check) if layers else _autograd_step(model, label_check)


def _autograd_step(model: nn.Module, label_check: LabelCheck) -> Step:
    def step(images: Tensor, labels: Tensor) -> None:
        with _batch_norm_errors():
            with shape_errors(images):
                f = logits(model, images)
            label_check.check(f)
            F.cross_entropy(f, labels).backward()

    return step


@contextlib.contextmanager
def _batch_norm_errors() -> Iterator[None]:
    """Turn PyTorch's error for batch norm on one image into one sentence.

    Raises:
        DfalError: in place of that error.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise DfalError(
            "batch norm cannot train on one image: let first and training_batch be 2 or more,"
            " or take it out"
        ) from error


def _fused_step(layers: FastSequential, label_check: LabelCheck) -> Step:
    @torch.no_grad()
    def step(images: Tensor, labels: Tensor) -> None:
        with shape_errors(images):
            out, backward = layers.forward(images)
        f = check_logits(out, len(images))
        label_check.check(f)
        error = (f.softmax(1) - F.one_hot(labels, f.shape[1])) / len(labels)
        backward(_cotangent(error, out), params=True, inputs=False)

    return step


def _cotangent(error: Float[Tensor, "n c"], out: Tensor) -> Tensor:
    """Return a gradient by the logits as one by the network's output, which may be one logit."""
    return error[:, -out.shape[-1] :].to(out.dtype).unsqueeze(0)


@runtime_checkable
class Gradients(Protocol):
    """Gradients of a network's cross-entropy with class probabilities as targets.

    CE(t, f) = −Σ_c t_c log softmax(f)_c.
    """

    def probabilities(self, images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        """Return the class probabilities in evaluation mode, without a gradient."""

    def of_images(
        self, images: Float[Tensor, "n *image"], targets: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n *image"]:
        """Return the gradient of each image's cross-entropy by the image, in evaluation mode."""

    def add(
        self,
        images: Float[Tensor, "n *image"],
        targets: Float[Tensor, "n c"],
        weights: Float[Tensor, "n"],
    ) -> None:
        """Add the gradient of Σ w_i CE(t_i, f(x_i)) to the parameters' `.grad`."""


def gradients(model: nn.Module, train_mode: Callable[[], object]) -> Gradients:
    """Return a network's gradients, without autograd where its layers can be fused.

    Args:
        model: with dropout off.
        train_mode: puts it into the mode in which it is trained.
    """
    model.eval()
    normed = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    layers = None if normed else fast_sequential(model)
    return FusedGradients(layers) if layers else AutogradGradients(model, train_mode)


class FusedGradients:
    """Gradients by fused layers.

    Args:
        layers: of a network that computes the same in training and evaluation.
    """

    def __init__(self, layers: FastSequential):
        self._layers = layers

    def probabilities(self, images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        with shape_errors(images):
            return check_logits(self._layers(images), len(images)).softmax(1)

    @torch.no_grad()
    def of_images(
        self, images: Float[Tensor, "n *image"], targets: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n *image"]:
        out, backward = self._layers.forward(images)
        error = check_logits(out, len(images)).softmax(1) - targets
        return backward(_cotangent(error, out), params=False, inputs=True)[0]

    @torch.no_grad()
    def add(
        self,
        images: Float[Tensor, "n *image"],
        targets: Float[Tensor, "n c"],
        weights: Float[Tensor, "n"],
    ) -> None:
        out, backward = self._layers.forward(images)
        error = (check_logits(out, len(images)).softmax(1) - targets) * weights.unsqueeze(1)
        backward(_cotangent(error, out), params=True, inputs=False)


class AutogradGradients:
    """Gradients by autograd, of any network.

    Args:
        model: the network.
        train_mode: puts it into the mode in which it is trained.
    """

    def __init__(self, model: nn.Module, train_mode: Callable[[], object]):
        self._model, self._train_mode = model, train_mode

    @torch.no_grad()
    def probabilities(self, images: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        self._model.eval()
        with shape_errors(images):
            return logits(self._model, images).softmax(1)

    def of_images(
        self, images: Float[Tensor, "n *image"], targets: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n *image"]:
        self._model.eval()
        x = images.detach().requires_grad_()
        loss = F.cross_entropy(differentiable_logits(self._model, x), targets, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    def add(
        self,
        images: Float[Tensor, "n *image"],
        targets: Float[Tensor, "n c"],
        weights: Float[Tensor, "n"],
    ) -> None:
        self._train_mode()
        with _batch_norm_errors():
            losses = F.cross_entropy(logits(self._model, images), targets, reduction="none")
            (losses * weights).sum().backward()


def learning_rates(largest: float, schedule: str, steps: int) -> Iterator[float]:
    """Yield the step size of each step.

    Args:
        largest: the step size, which "constant" always has.
        schedule: one of `SCHEDULES`; "cosine" is that of Loshchilov & Hutter 2017 without restarts.
        steps: how many there are.
    """
    rising = min(WARM_UP_STEPS, steps // 10)
    for step in range(steps):
        yield largest * (1 if schedule == "constant" else warm_cosine(step, steps, rising))


def warm_cosine(step: int, steps: int, rising: int) -> float:
    """Return the factor of a step size that rises linearly, then falls as a cosine.

    Args:
        step: from 0 on.
        steps: how many there are.
        rising: in how many of them it rises.
    """
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


class RunningMean:
    """The running mean of parameters: θ̄ ← d θ̄ + (1 − d) θ, with smaller d in the first steps.

    Args:
        parameters: what is averaged.
        decay: d.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        self._parameters, self._decay, self._step = parameters, decay, 0
        self._means = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step."""
        self._step += 1
        decay = min(self._decay, self._step / (self._step + 9))
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange mean and parameters; once more, and all is as before."""
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)


def shuffled_cycles(
    count: int,
    size: int,
    device: torch.device | str = "cpu",
    rng: torch.Generator | None = None,
) -> Iterator[Int64[Tensor, "b"]]:
    """Yield mini-batches of `size` out of one pass after another, each in a new order, for ever.

    Args:
        count: how many rows there are.
        size: of a mini-batch; it has rows twice where there are fewer.
        device: of the mini-batches, on which they are drawn.
        rng: draws the orders; PyTorch's own generator by default.
    """
    queue = torch.empty(0, dtype=torch.int64, device=device)
    while True:
        while len(queue) < size:
            order = torch.randperm(count, generator=rng, device=device)
            queue = torch.cat([queue, order])
        yield queue[:size]
        queue = queue[size:]
