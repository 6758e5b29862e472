"""The paper's networks, and how any network is made by its name."""

import contextlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dfal.arguments import short, whole
from dfal.errors import DfalError, unknown_name
from dfal.nn import NETWORKS
from dfal.nn.evaluation import is_unchanged
from dfal.plugins import describe_exception, load_object

TAKES_ROWS = {"linear"}
"""Networks that take inputs of any shape, and so features of images too."""


def lenet5(image: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Make the paper's LeNet5, which returns logits.

    Args:
        image: channels, height, width in pixels; at least 16 × 16.
        classes: how many logits.

    Raises:
        DfalError: for smaller images, and for what is no shape or no number of classes.
    """
    (c, h, w), classes = _checked("lenet5", image, classes)
    h, w = ((h - 4) // 2 - 4) // 2, ((w - 4) // 2 - 4) // 2
    _check_size(h, w, "lenet5", image)
    network = _glorot(
        nn.Sequential(
            *(nn.Conv2d(c, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
            *(nn.Conv2d(16, 120, 1), nn.Flatten()),
            *(nn.Linear(120 * h * w, 84), nn.ReLU(), nn.Linear(84, classes), nn.Dropout(0.5)),
            nn.Linear(classes, classes),
        )
    )
    # The last layer takes one number for each class, which are logits but for a linear map. What
    # the network has seen is in the 84 before them.
    network.features_before = "12"  # type: ignore[assignment]  # PyTorch names tensors only
    return network


def vgg8(image: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Make the paper's VGG8, which returns logits.

    Args:
        image: channels, height, width in pixels; at least 16 × 16.
        classes: how many logits.

    Raises:
        DfalError: for smaller images, and for what is no shape or no number of classes.
    """
    (c, h, w), classes = _checked("vgg8", image, classes)
    _check_size(h // 16, w // 16, "vgg8", image)
    layers: list[nn.Module] = []
    for block in ((64,), (128,), (256, 256), (512, 512)):
        for width in block:
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()]
            c = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    layers += [
        nn.Flatten(),
        nn.Linear(512 * (h // 16) * (w // 16), 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
    ]
    return _glorot(nn.Sequential(*layers, nn.Linear(4096, classes)))


def linear(image: tuple[int, ...] = (1, 28, 28), classes: int = 10) -> nn.Sequential:
    """Make a linear layer after dropout, which returns logits of images or of features.

    Args:
        image: the shape of an input: channels, height and width, or the number of features.
        classes: how many logits.
    """
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(math.prod(image), classes))


def is_linear(model: nn.Module) -> bool:
    """Return whether a network, evaluated, is one linear layer of its flattened input."""
    layers = list(model.children()) if type(model) is nn.Sequential else [model]
    kinds = [type(layer) for layer in layers]
    if not all(map(is_unchanged, model.modules())):
        return False
    return kinds.count(nn.Linear) == 1 and set(kinds) <= {nn.Linear, nn.Flatten, nn.Dropout}


def build(name: str, image: tuple[int, ...], classes: int) -> nn.Module:
    """Make a new network on the CPU, whose lazy layers have their weights already.

    Args:
        name: one of `NETWORKS`, or `package.module:function`, called as function(image=(c, h, w),
            classes=n).
        image: the shape of one image, channels first.
        classes: how many logits.

    Raises:
        DfalError: for a name that is not there, a function that fails, and where it returns no
            `nn.Module`.
    """
    if name in NETWORKS:
        if len(image) != 3 and name not in TAKES_ROWS:
            raise DfalError(
                f"{name} takes images, but it is given {math.prod(image)} features of each: give"
                " --model linear, or a network of your own that takes features"
            )
        return NETWORKS[name](image=image, classes=classes)
    if ":" not in name:
        raise unknown_name("network", name, [*NETWORKS, "package.module:function"])
    make = load_object("network", name)
    called = f"{name.partition(':')[2]}(image={image}, classes={classes})"
    try:
        model = make(image=image, classes=classes)
    except DfalError:
        raise
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(
            f"the network {name} fails when it is called as {called} ({describe_exception(error)})"
        ) from error
    if not isinstance(model, nn.Module):
        raise DfalError(f"{name} returned {type(model).__name__}, but a torch.nn.Module is needed")
    return init_lazy_layers(model, torch.zeros(1, *image))


def init_lazy_layers(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return the network itself, with weights in its lazy layers, if it has any.

    Args:
        model: any network.
        images: (n, *image), which lazy layers are given to find the shapes of their weights.

    Raises:
        DfalError: where the network cannot take such images.
    """
    if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
        training = model.training
        try:
            with torch.no_grad():
                model.eval()(images.clone())
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise DfalError(
                f"the network cannot take images of shape {tuple(images.shape[1:])}"
                f" ({describe_exception(error)})"
            ) from error
        model.train(training)
    return model


def _glorot(model: nn.Sequential) -> nn.Sequential:
    """Initialise the weights as Glorot & Bengio (2010) do, uniformly, and the biases as 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def _checked(name: str, image: Any, classes: Any) -> tuple[tuple[int, ...], int]:
    """Return the shape of an image and the number of classes that a network is made for.

    Raises:
        DfalError: for others.
    """
    classes = whole("classes", classes)
    if classes < 1:
        raise DfalError(f"classes = {classes} leaves {name} without a logit: give 1 or more")
    shape: tuple[int, ...] = ()
    with contextlib.suppress(DfalError):
        shape = tuple(whole("image", side) for side in image) if isinstance(image, Iterable) else ()
    if len(shape) != 3 or min(shape) < 1:
        raise DfalError(
            f"image = {short(image)} is no shape of an image that {name} takes: give channels,"
            f" height and width, as in {name}((1, 28, 28)); {name}(classes=4) has four classes"
        )
    return shape, classes


def _check_size(h: int, w: int, name: str, image: tuple[int, ...]) -> None:
    """Check that something is left of an image: h × w pixels after the last convolution.

    Raises:
        DfalError: where nothing is.
    """
    if h < 1 or w < 1:
        raise DfalError(
            f"{name} needs images of at least 16 × 16 pixels, but they are {image[1]} × {image[2]}"
        )
