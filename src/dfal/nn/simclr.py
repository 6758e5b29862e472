"""SimCLR (Chen et al. 2020): a network learns from images alone which looks are of one image."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.nn.custom_augmentation import load_augmentation
from dfal.nn.evaluation import default_modes
from dfal.nn.features import features_module
from dfal.nn.network_input import prepare_images, shape_errors
from dfal.nn.networks import init_lazy_layers
from dfal.nn.train_mode import train_mode
from dfal.nn.training_steps import learning_rates, shuffled_cycles
from dfal.seeding import fork_rng, generator

STEPS = 400
"""Steps of Adam."""
BATCH = 128
"""Images in a step, each with two looks."""
LEARNING_RATE = 3e-3
"""The largest step size; it rises, then falls as a cosine."""
TEMPERATURE = 0.2
"""Divides the cosines between looks."""
HIDDEN, PROJECTED = 256, 128
"""Widths of the head that takes the features, and is thrown away."""


@default_modes()
def pretrain(
    make: Callable[[], nn.Module],
    images: Images,
    seed: int,
    *,
    augment: str,
    device: torch.device | str = "cpu",
    steps: int = STEPS,
) -> dict[str, Tensor]:
    """Return the weights that come before a network's features, learnt from images without labels.

    Two random looks at each of a batch of images are to have features that are more like each other
    than like those of any other image. Dropout is off.

    Args:
        make: returns a new network; `features` are those of `dfal.features`.
        images: of which the network learns, at least 2.
        seed: fixes weights, batches and looks.
        augment: makes the looks, as in `Training`.
        device: where it is trained.
        steps: how many.

    Returns:
        The part of a `state_dict` that was trained, on the CPU.

    Raises:
        DfalError: for fewer images, and where nothing before the features is trained.
    """
    if len(images) < 2:
        raise DfalError("simclr compares images, and there are fewer than 2: give more")
    with fork_rng(seed, torch.device(device)):
        network = make().to(device)
        example = prepare_images(network, images.take(torch.arange(2), torch.device(device)))
        init_lazy_layers(network, example)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        _train(network, images, generator(seed, 0, "simclr"), augment, steps)
    after = network.state_dict()
    return {
        name: tensor.cpu().clone()
        for name, tensor in after.items()
        if not torch.equal(tensor, before[name])
    }


def started_from(
    make: Callable[[], nn.Module], weights: Mapping[str, Tensor]
) -> Callable[[], nn.Module]:
    """Return a function that makes a network with some of its weights replaced.

    Args:
        make: returns a new network, whose other weights stay as they are.
        weights: what `pretrain` returns.
    """

    def started() -> nn.Module:
        network = make()
        network.load_state_dict(dict(weights), strict=False)
        return network

    return started


def _train(
    network: nn.Module, images: Images, rng: torch.Generator, augment: str, steps: int
) -> None:
    """Train what comes before the features, in place."""
    looks = load_augmentation(augment)
    set_mode = train_mode(network, without_dropout=True)
    set_mode()
    device = next(network.parameters()).device
    example = prepare_images(network, images.take(torch.arange(2), device))
    module = features_module(network, example)
    set_mode()
    width = _before(network, module, example).shape[1]
    head = nn.Sequential(
        nn.Linear(width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PROJECTED)
    ).to(device)
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam([*free, *head.parameters()], lr=LEARNING_RATE, fused=True)
    batches = shuffled_cycles(len(images), min(BATCH, len(images)), rng=rng)
    for rate in learning_rates(LEARNING_RATE, "cosine", steps):
        batch = images.take(next(batches), device)
        pairs = prepare_images(network, looks.strong(torch.cat([batch, batch]), rng))
        features = _before(network, module, pairs)
        if not features.requires_grad:
            raise DfalError(
                "simclr trains what comes before a network's features, and all of that is frozen"
                " here: start from it as it is"
            )
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        contrast(head(features.float())).backward()
        optimiser.step()


def contrast(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding each row's partner among all other rows.

    Args:
        rows: of which the second half are the partners of the first, in the same order.

    Source: Chen et al. 2020, NT-Xent.
    """
    unit = F.normalize(rows)
    cosines = unit @ unit.T / TEMPERATURE
    cosines = cosines.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -1e9)
    partner = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    return F.cross_entropy(cosines, partner)


class _Reached(Exception):  # noqa: N818  nothing is wrong
    """The features were reached: what comes after them need not be computed."""

    def __init__(self, features: Tensor):
        super().__init__()
        self.features = features


def _before(network: nn.Module, module: nn.Module, images: Tensor) -> Float[Tensor, "n d"]:
    """Return what a module of the network is given, with its graph, one row an image."""

    def stop(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise _Reached(next(iter((*inputs, *named.values()))))

    hook = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with shape_errors(images):
            network(images)
    except _Reached as reached:
        return reached.features.flatten(1)
    finally:
        hook.remove()
    raise DfalError("the network does not run the module that takes its features")
