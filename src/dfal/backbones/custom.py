"""Backbones of the user's own, as package.module:function."""

from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe
from dfal.errors import DfalError
from dfal.plugins import describe_exception, load_object


def load(argument: str, image: Image | None) -> Backbone:
    """Load a backbone that a function of the user's returns.

    Args:
        argument: `package.module:function`, called as function(image=(c, h, w) or None).
        image: what it is to take; None for its own.

    Raises:
        DfalError: where the function cannot be found, fails, or returns anything else.
    """
    make = load_object("backbone", argument)
    try:
        backbone = make(image=image)
    except DfalError:
        raise
    except Exception as error:  # it is the user's code, which may raise anything
        raise DfalError(f"the backbone {argument} fails ({describe_exception(error)})") from error
    if not isinstance(backbone, Backbone):
        raise DfalError(
            f"{argument} returned {type(backbone).__name__}, but a dfal.backbones.Backbone is"
            " needed"
        )
    return backbone


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Call the function again, and put other weights into its network.

    Raises:
        DfalError: as `load` does.
        RuntimeError: for weights that do not fit.
    """
    network = load(argument, image).network
    network.load_state_dict(weights)
    return network
