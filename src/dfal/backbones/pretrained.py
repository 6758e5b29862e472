"""What backbones of other packages share: their normalisation, and one sentence for failures."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe
from dfal.errors import DfalError, first_line


class Normalised(nn.Module):
    """A network behind the normalisation of its images: (x − mean) / std.

    Args:
        network: takes normalised images and returns (n, d) features.
        mean: of each channel, or one for all, of pixels in [0, 1].
        std: of each channel, or one for all.
        recipe: what rebuilds the network beside its weights; mean and std are among those.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], recipe: Recipe
    ):
        super().__init__()
        self.network, self.recipe = network, dict(recipe)
        self.register_buffer("mean", torch.tensor([*mean]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor([*std]).view(-1, 1, 1))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of images with pixels in [0, 1]."""
        out: Tensor = self.network((images - self.mean) / self.std)
        return out


def pretrained_backbone(name: str, network: Normalised, image: Image, about: str) -> Backbone:
    """Return the backbone of a network whose features are counted by running it once.

    Raises:
        DfalError: where it cannot take such an image, or returns no (n, d) features.
    """
    c, h, w = image
    try:
        with torch.no_grad():
            out = network.eval()(torch.zeros(2, *image))
    except Exception as error:  # the code of other packages may raise anything
        raise DfalError(
            f"the backbone {name} cannot take images of {c} channels, {h} × {w} pixels"
            f" ({first_line(error)}): use it at its own size"
        ) from error
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2:
        what = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise DfalError(
            f"the backbone {name} returns {what} for 2 images, but (2, d) features are needed"
        )
    return Backbone(name, network, image, out.shape[1], about)


def rebuilt(network: nn.Module, recipe: Recipe, weights: dict[str, Tensor]) -> Normalised:
    """Return a network with other weights and their normalisation.

    Raises:
        RuntimeError: for weights that do not fit.
    """
    channels = weights["mean"].numel() if "mean" in weights else 1
    normalised = Normalised(network, [0.0] * channels, [1.0] * channels, recipe)
    normalised.load_state_dict(weights)
    return normalised


def imported(package: str, name: str, install: str) -> Any:
    """Import the package that a backbone needs.

    Args:
        package: to import.
        name: of the backbone.
        install: the command that installs it.

    Raises:
        DfalError: where it is missing, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise _broken(package, name, error) from error
        raise DfalError(f"the backbone {name} needs one more package: {install}") from None
    except Exception as error:  # packages that do not fit each other raise anything
        raise _broken(package, name, error) from error


def _broken(package: str, name: str, error: BaseException) -> DfalError:
    return DfalError(
        f"the backbone {name} needs {package}, which is installed but cannot be imported"
        f" ({first_line(error)}): install versions of torch and {package} that fit each other"
    )


@contextlib.contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turn any error of another package in a block into one sentence.

    Args:
        name: of the backbone.
        what: the sentence's end: what to do.

    Raises:
        DfalError: in place of any other exception.
    """
    try:
        yield
    except DfalError:
        raise
    except Exception as error:
        raise DfalError(
            f"the backbone {name} cannot be loaded ({first_line(error)}): {what}"
        ) from error


def three(values: Any, default: Sequence[float]) -> list[float]:
    """Return the numbers of a setting that may be one number, a list, or missing."""
    if values is None:
        return [*default]
    return [float(values)] if isinstance(values, int | float) else [float(v) for v in values]
