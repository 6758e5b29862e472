"""Prepare a network and images for an attack."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dfal.nn.evaluation import frozen_eval, full_precision
from dfal.nn.network_input import at_least_float32, check_input, prepare_images, shape_errors


@contextlib.contextmanager
def prepared(model: Any, images: Any) -> Iterator[tuple[nn.Module, Float[Tensor, "n *image"]]]:
    """Yield a network as an attack computes it, and the images as it takes them, for a block.

    The network is in evaluation mode, without gradients for its parameters and without TF32. The
    images are copies on its device, in float32 at least.

    Args:
        model: returns logits, (N, C) or one a row; afterwards it is as it was.
        images: N images as the network takes them.

    Raises:
        DfalError: for images that the network cannot take.
    """
    check_input(model, images)
    with (
        frozen_eval(model, images[:1]) as network,
        shape_errors(images),
        full_precision(),
    ):
        yield network, at_least_float32(prepare_images(network, images)).detach().clone()
