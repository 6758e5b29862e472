"""Training of the user's own: a function (make, data, seed) → network, loaded by its name."""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dfal.arguments import check_function, check_network
from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes, frozen_eval
from dfal.nn.inference import check_finite, logits
from dfal.nn.network_input import prepare_images
from dfal.nn.networks import init_lazy_layers
from dfal.plugins import describe_exception, load_object
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, fork_rng

CHECKED_IMAGES = 8
"""Labelled images on which a trained network is tried."""


@dataclass(frozen=True)
class CustomFit:
    """A function that trains a network, whose result is checked.

    Attributes:
        name: `package.module:function`.
        function: called as function(make, data, seed).
    """

    name: str
    function: Callable[[Callable[[], nn.Module], LabelledData, int], Any]

    @default_modes()
    def __call__(self, make: Callable[[], nn.Module], data: LabelledData, seed: int) -> nn.Module:
        """Train a network by the function.

        Meanwhile the global generators of torch, numpy and random are seeded by `seed`, and
        autocast and `torch.no_grad` of the caller are off.

        Args:
            make: returns a new network, randomly initialised. The function gets it on the device of
                the images.
            data: what is trained on.
            seed: fixes everything random.

        Returns:
            The network in evaluation mode, on the device of the images.

        Raises:
            DfalError: where the function fails, and where what it returns is no network, has other
                logits than that of `make`, or is not finite.
        """
        device, images = data.images.device, data.images[:CHECKED_IMAGES]

        def make_here() -> nn.Module:
            model = make()
            check_network(model, "what make returns")
            model = model.to(device)
            return init_lazy_layers(model, prepare_images(model, images[:1]))

        with fork_rng(derive_seed(seed, 0, "classes"), device):
            classes = _logits(make_here(), images[:1]).shape[1]
        with fork_rng(seed, device), _fork_numpy(seed):
            try:
                trained = self.function(make_here, data, seed)
            except Exception as error:  # it is the user's code, which may raise anything
                what = str(error) if isinstance(error, DfalError) else describe_exception(error)
                raise DfalError(f"the training {self.name} fails ({what})") from error
        check_network(trained, f"what the training {self.name} returns")
        model: nn.Module = trained.to(device).eval()
        model.zero_grad(set_to_none=True)
        try:
            f = _logits(model, images)
        except Exception as error:  # the network may be the user's, too
            what = str(error) if isinstance(error, DfalError) else describe_exception(error)
            raise DfalError(
                f"the network that the training {self.name} returns cannot be used ({what})"
            ) from error
        if f.shape[1] != classes:
            raise DfalError(
                f"the training {self.name} returns a network of {f.shape[1]} logits, but"
                f" {classes} are needed: train what make() returns"
            )
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
            raise DfalError(
                f"the training {self.name} returns a network with NaN or infinite weights: lower"
                " its learning rate"
            )
        return model


def load_fit(name: str) -> CustomFit:
    """Load a training of the user's own, for `Trial`, `dfal run` and `dfal label`.

    Args:
        name: `package.module:function`, called as function(make, data, seed): `make()` returns a
            new network, `data` is the `LabelledData` to train on, and the function returns the
            trained network.

    Raises:
        DfalError: for a name that is not there, and what cannot be called so.
    """
    if ":" not in name:
        raise DfalError(f"the training {name!r} has no colon: give package.module:function")
    function = load_object("training", name)
    check_function(
        f"the training {name}",
        function,
        ("make", "data", "seed"),
        "write a function that trains make() on data.images and data.labels, and returns it",
    )
    return CustomFit(name, function)


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with frozen_eval(model), torch.no_grad():
        return check_finite(logits(model, prepare_images(model, images)))


@contextlib.contextmanager
def _fork_numpy(seed: int) -> Iterator[None]:
    """Seed the global generators of numpy and random for a block, and restore them afterwards."""
    states = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
