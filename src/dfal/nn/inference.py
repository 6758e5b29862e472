"""Logits of any network, checked, and its predictions.

Any `nn.Module` that maps images (N, …) to logits (N, C) works unchanged. One logit a row counts
as two classes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.errors import DfalError, first_line
from dfal.nn.evaluation import default_modes, evaluated, frozen_eval
from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.network_input import (
    at_least_float32,
    check_input,
    copy_for,
    prepare_images,
    shape_errors,
)
from dfal.nn.passes import images_a_pass
from dfal.seeding import fork_rng


@torch.enable_grad()
def differentiable_logits(model: nn.Module, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
    """Return the logits with their graph, so that autograd can differentiate them.

    Args:
        model: any network.
        x: n images; these or the parameters require a gradient.

    Raises:
        DfalError: where the network computes without autograd, and as `logits` does.
    """
    f = logits(model, x)
    if len(f) and not f.requires_grad:
        raise DfalError(
            "the network's logits have no gradient, which is needed here: take torch.no_grad(),"
            " detach() and whatever else autograd cannot follow out of its forward"
        )
    return f


@contextlib.contextmanager
def backward_errors() -> Iterator[None]:
    """Turn PyTorch's errors in a backward pass into one sentence.

    Raises:
        DfalError: in place of PyTorch's errors.
        OutOfMemoryError: as it is.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DfalError(
            f"the network cannot be differentiated ({first_line(error)}), which is needed"
            " here: take whatever autograd cannot follow out of its forward"
        ) from error


def logits(
    model: Callable[[Tensor], Any], images: Float[Tensor, "n *image"]
) -> Float[Tensor, "n c"]:
    """Return the network's logits in whatever mode it is, in float32 at least.

    One logit f a row becomes two, (0, f), whose softmax is its sigmoid. Of an output with an
    attribute or a key `logits`, as Hugging Face's networks have, that is taken. The network is
    given a copy of the images in its own type, so that it may change them in place.

    Args:
        model: any network, or a function of images.
        images: n images.

    Raises:
        DfalError: for an output that is no (N, C) tensor, or one of probabilities.
    """
    if isinstance(model, FastSequential):
        return check_logits(model(images), len(images))
    f = check_logits(run(model, images), len(images))
    refuse_sigmoids(model, images, f)
    return f


def run(model: Callable[[Tensor], Any], images: Float[Tensor, "n *image"]) -> Any:
    """Return what the network returns for a copy of the images in its own type.

    One image that the network cannot take alone in evaluation mode is given to it twice.

    Args:
        model: any network, or a function of images.
        images: n images.
    """
    try:
        return model(copy_for(model, images))
    except (RuntimeError, AssertionError, ValueError, IndexError):
        if len(images) != 1 or getattr(model, "training", False):
            raise
        with contextlib.suppress(RuntimeError, AssertionError, ValueError, IndexError):
            out = unwrap_logits(model(copy_for(model, torch.cat([images, images]))))
            if isinstance(out, Tensor) and out.shape[:1] == (2,):
                return out[:1]
        raise


def refuse_sigmoids(model: Callable[[Tensor], Any], images: Tensor, f: Tensor) -> None:
    """Check that the logits f of the images are not the output of a sigmoid.

    The network may be called once more.

    Raises:
        DfalError: where they are.
    """
    values = f.detach()
    if (
        len(values)
        and bool(((values >= 0) & (values <= 1)).all())
        and _ends_in_probabilities(model, images, f)
    ):
        raise DfalError(
            "the network returns probabilities (it ends in a sigmoid), but logits are needed: take"
            " off its sigmoid"
        )


def _ends_in_probabilities(model: Callable[[Tensor], Any], images: Tensor, f: Tensor) -> bool:
    """Return whether the last operation of the network is a sigmoid or a softmax.

    Operations that only move numbers are left out; autograd's graph says which come last.
    """
    if f.grad_fn is None:
        try:
            with default_modes(), fork_rng(0, images.device), contextlib.ExitStack() as stack:
                if isinstance(model, nn.Module):
                    stack.enter_context(evaluated(model))
                f = check_logits(run(model, images[:1].detach().clone().requires_grad_()), 1)
        except Exception:  # it is the user's code, which may raise anything for one image
            return False
    nodes = [f.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None:
            return False
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name in SHAPE_OPERATIONS:
            inputs = [function for function, _ in node.next_functions if function is not None]
            nodes += inputs or [None]
        elif name not in {"Sigmoid", "Hardsigmoid", "Softmax"}:
            return False
    return True


SHAPE_OPERATIONS = {
    *(
        "Alias",
        "Cat",
        "Clone",
        "ConstantPadNd",
        "Permute",
        "ReshapeAlias",
        "Select",
        "Slice",
        "Split",
        "Squeeze",
        "Stack",
    ),
    *("T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View"),
}
"""Operations of autograd's graph that move numbers and change none."""


def unwrap_logits(out: Any) -> Any:
    """Return the `logits` of what a network returned, where it has such an attribute or key."""
    if isinstance(out, Mapping):
        return out.get("logits", out)
    return out if isinstance(out, Tensor) else getattr(out, "logits", out)


def check_logits(out: Any, n: int) -> Float[Tensor, "n c"]:
    """Return what a network returned for n images as logits (n, c), in float32 at least.

    Raises:
        DfalError: as `logits` does, but not for the output of a sigmoid.
    """
    out = unwrap_logits(out)
    if isinstance(out, Tensor) and out.ndim == 1:
        # One logit an image, or one image whose dimension of size 1 was squeezed away.
        out = out.unsqueeze(0) if n == 1 else out.unsqueeze(1) if len(out) == n else out
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != n:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        cure = ": wrap it in a module that returns out[0]" if isinstance(out, tuple | list) else ""
        if isinstance(out, Mapping):
            cure = (
                f" with {', '.join(map(str, out))} and no logits: give it a layer for the classes"
            )
        raise DfalError(
            f"the network must return logits of shape (N, C) for N = {n} images, but it returned"
            f" {got}{cure}"
        )
    if not out.is_floating_point():
        raise DfalError(
            f"the network returns {out.dtype}, but logits are needed: take off what makes classes"
            " of them"
        )
    rounding, f = torch.finfo(out.dtype).eps, at_least_float32(out)
    if f.shape[1] == 1:
        return F.pad(f, (1, 0))
    values = f.detach()
    if (
        len(values)
        and bool((values >= 0).all())
        and bool(((values.sum(1) - 1).abs() < max(1e-5, rounding)).all())
    ):
        raise DfalError(
            "the network returns probabilities (rows ≥ 0 that sum to 1), but logits are needed:"
            " take off its softmax"
        )
    return f


@torch.no_grad()
def predict(
    model: nn.Module, images: Float[Tensor, "n *image"], chunk: int = 1024
) -> Float[Tensor, "n c"]:
    """Return the logits of images in evaluation mode, without gradients.

    Args:
        model: any network; the logits are on its device.
        images: n images as the network takes them.
        chunk: images that are computed at a time at most; fewer where they are large.

    Raises:
        DfalError: as `logits` does, and for NaN or infinite logits.
    """
    check_input(model, images)
    with frozen_eval(model, images[:1]) as network, shape_errors(images):
        layers = fast_sequential(
            network,
            prepare_images(network, images[:1]) if len(images) >= MIN_FOLDING_IMAGES else None,
        )
        most = chunk if layers is None else min(chunk, FORWARD_BATCH)
        batches = images.split(images_a_pass(images, most))
        f = [logits(layers or network, prepare_images(network, batch)) for batch in batches]
        return check_finite(torch.cat(f))


FORWARD_BATCH = 128
"""Images that a `FastSequential` computes at a time: they should fit into a processor's cache."""


MIN_FOLDING_IMAGES = 256
"""Images from which on it pays to fold affine layers into one."""


def check_finite(f: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Return the logits themselves where all of them are finite.

    Raises:
        DfalError: where one is NaN or infinite: such an image would be ranked at random.
    """
    good = f.isfinite().all(1)
    if not good.all():
        raise DfalError(
            f"the network returned NaN or infinite logits for {int((~good).sum())} of {len(f)}"
            " images: its training has diverged, or its input is not what it was trained on"
        )
    return f
