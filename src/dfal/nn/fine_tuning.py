"""Train a whole network further: a small learning rate, warm-up, cosine, augmentation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dfal.data.image_array import Images
from dfal.nn.augmentation import Change
from dfal.nn.evaluation import default_modes
from dfal.nn.inference import logits
from dfal.nn.training_steps import warm_cosine
from dfal.seeding import derive_seed, fork_rng, generator


@dataclass(frozen=True)
class FineTuning:
    """How a network is trained further.

    Attributes:
        learning_rate: the largest step size of AdamW.
        epochs: passes over the labelled images.
        batch: mini-batch size.
        warm_up: fraction of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        smoothing: of the labels.
        keep_statistics: whether batch norm keeps its running statistics, which few labels would
            spoil.
    """

    learning_rate: float = 3e-4
    epochs: int = 15
    batch: int = 32
    warm_up: float = 0.1
    weight_decay: float = 0.01
    smoothing: float = 0.1
    keep_statistics: bool = True

    def steps(self, images: int) -> int:
        """Return how many steps a training on so many images has."""
        return self.epochs * math.ceil(images / self.batch)


@default_modes()
def fine_tune(
    network: nn.Module,
    images: Images,
    indices: Int64[Tensor, "n"],
    labels: Int64[Tensor, "n"],
    *,
    augment: Change,
    settings: FineTuning,
    seed: int,
    proceed: Callable[[int, int], None] = lambda step, steps: None,
) -> nn.Module:
    """Train all parameters of a network further, in place, and return it in evaluation mode.

    Args:
        network: on the device where it is trained.
        images: all images there are.
        indices: those that are trained on.
        labels: their classes.
        augment: changes each mini-batch.
        settings: how it is trained.
        seed: of the order of the images, the augmentation and dropout.
        proceed: called before each step with its number and the count of steps, and after the last;
            what it raises ends the training.
    """
    network.requires_grad_(True)
    device = next(network.parameters()).device
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.steps(len(indices))
    rising = max(1, round(settings.warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_cosine(step, steps, rising)
    )
    rng = generator(seed, 0, "fine-tune")
    step = 0
    with fork_rng(derive_seed(seed, 0, "dropout"), device):
        for _ in range(settings.epochs):
            _train_mode(network, settings.keep_statistics)
            for rows in torch.randperm(len(indices), generator=rng).split(settings.batch):
                proceed(step, steps)
                batch = augment(images.take(indices[rows]).to(device), rng)
                loss = F.cross_entropy(
                    logits(network, batch.contiguous(memory_format=torch.channels_last)),
                    labels[rows].to(device),
                    label_smoothing=settings.smoothing,
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                step += 1
    proceed(step, steps)
    return network.eval().requires_grad_(False)


def _train_mode(network: nn.Module, keep_statistics: bool) -> None:
    network.train()
    for module in network.modules():
        if keep_statistics and isinstance(module, _BatchNorm):
            module.eval()
