"""Run any network: prepare its input, freeze it, check its logits.

Any `nn.Module` that maps images (N, …) to logits (N, C) works unchanged. One logit a row counts
as two classes.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from dfal.arguments import check_network
from dfal.errors import DfalError, first_line
from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.passes import images_a_pass
from dfal.seeding import fork_rng


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the network's parameters; the CPU where it has none."""
    check_network(model)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def prepare_images(model: nn.Module, images: Any) -> Float[Tensor, "n *image"]:
    """Move images to the network's device and into its floating-point type.

    Args:
        model: any network.
        images: n images as the network takes them.

    Raises:
        DfalError: for anything but a floating-point tensor of images.
    """
    check_input(model, images)
    prepared: Tensor = images.to(device_of(model), dtype_of(model) or images.dtype)
    return prepared


def check_input(model: Any, images: Any) -> None:
    """Check that arguments are a network and a floating-point tensor of images.

    Raises:
        DfalError: where they are not.
    """
    check_network(model)
    if not isinstance(images, Tensor):
        raise DfalError(
            f"images must be a tensor, but they are {type(images).__name__}: try"
            " torch.as_tensor(images)"
        )
    if not images.is_floating_point():
        raise DfalError(
            f"images must be floating point as the network wants them, but they are {images.dtype}:"
            " try images.float() / 255"
        )


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """Return the type of the first floating-point parameter; None where there is none."""
    return next(
        (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None
    )


def is_half(dtype: torch.dtype) -> bool:
    """Return whether a type is a floating-point type of fewer bits than float32."""
    return dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor in float32 where its own type has fewer bits, and unchanged elsewhere."""
    return x.float() if is_half(x.dtype) else x


@contextlib.contextmanager
def shape_errors(images: Tensor) -> Iterator[None]:
    """Turn the errors for images that do not fit a network into one sentence.

    PyTorch raises a RuntimeError; networks of other libraries that take one size only raise an
    AssertionError or a ValueError.

    Args:
        images: the images, whose shape the sentence names.

    Raises:
        DfalError: in place of these errors.
        OutOfMemoryError: as it is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, DfalError):
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        if any(words in str(error) for words in ("dtype", "scalar type", "Input type")):
            raise DfalError(
                "the network computes in types that do not fit each other"
                f" ({first_line(error)}): give all of it one type, as model.float() does"
            ) from error
        shape = tuple(images.shape[1:])
        last = len(shape) == 3 and shape[2] in {1, 3} and shape[0] not in {1, 3}
        cure = ": channels come first, try images.permute(0, 3, 1, 2)" if last else ""
        raise DfalError(
            f"the network cannot take images of shape {shape} ({first_line(error)}){cure}"
        ) from error


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


@contextlib.contextmanager
def default_modes() -> Iterator[None]:
    """Run a block in PyTorch's default modes, whatever those of the caller are.

    Inference mode and autocast are off, gradients are recorded, and new tensors are float32 where
    the caller's default type has fewer bits. `torch.no_grad` inside the block works as usual.
    """
    with contextlib.ExitStack() as stack:
        default = torch.get_default_dtype()
        if is_half(default):
            stack.callback(torch.set_default_dtype, default)
            torch.set_default_dtype(torch.float32)
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Let a GPU compute in float32 and not in TF32, for a block.

    TF32 has ten bits, and PyTorch uses it for convolutions by default: logits are wrong by about
    1e-3 of the largest, which moves boundaries that are near.
    """
    cuda: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    off: bool | str
    parts, name, off = [cuda, cudnn], "allow_tf32", False
    if hasattr(cuda, "fp32_precision"):  # from PyTorch 2.9 on
        parts, name, off = [cuda, cudnn.conv, cudnn.rnn], "fp32_precision", "ieee"
    before = [getattr(part, name) for part in parts]
    try:
        for part in parts:
            setattr(part, name, off)
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, name, value)


def unwrap_network(model: nn.Module) -> nn.Module:
    """Return the network under `torch.compile`, `nn.DataParallel` and `DistributedDataParallel`."""
    check_network(model)
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | DistributedDataParallel):
            model = model.module
        else:
            return model


@contextlib.contextmanager
def frozen_eval(
    model: nn.Module, example: Float[Tensor, "n *image"] | None = None
) -> Iterator[nn.Module]:
    """Put a network into evaluation mode without gradients for its parameters, for a block.

    Yields the network to call, which is that under `torch.compile` or `nn.DataParallel`, in
    PyTorch's default modes but for the caller's `torch.no_grad`. Compiled code is not run: it would
    not call the hooks that find features. Afterwards everything is as it was.

    Args:
        model: any network.
        example: a few images, for a network that is called within the block only through what is
            yielded. Parameters in half precision, or of several types, are then all in the widest
            of their types and float32 at least, unless the network cannot compute so; parameters
            made in inference mode are replaced by copies.

    Raises:
        DfalError: for batch norm that has no running statistics.
    """
    network, recording = unwrap_network(model), torch.is_grad_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(default_modes())
        stack.enter_context(torch.set_grad_enabled(recording))
        if any(map(_is_compiled, network.modules())):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if example is not None and any(
            map(_of_inference, [*network.parameters(), *network.buffers()])
        ):
            network = copy.deepcopy(network)
        stack.enter_context(_evaluated(network))
        if example is not None:
            stack.enter_context(_widened(network, example))
        yield network


def _is_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules or module.__dict__.get("_compiled_call_impl") is not None


def _of_inference(tensor: Tensor) -> bool:
    return tensor.is_inference() if not is_lazy(tensor) else False


@contextlib.contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode and parameters out of autograd, for a block."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise DfalError(
                f"the batch norm {name or type(module).__name__} of the network has no running"
                " statistics, so that the logits of an image depend on the others in its batch:"
                " make it with track_running_stats=True"
            )
    modes = {module: module.training for module in model.modules()}
    trained = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and not _of_inference(parameter)
    ]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _widened(model: nn.Module, example: Tensor) -> Iterator[None]:
    """Put parameters and buffers into the widest type of the parameters, for a block.

    That is float32 at least. A network that fails so, because its forward pass asks for a type of
    its own, is left as it is.
    """
    parameters = [
        parameter
        for parameter in model.parameters()
        if parameter.is_floating_point() and not is_lazy(parameter)
    ]
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer) and buffer.is_floating_point()
    ]
    types = {parameter.dtype for parameter in parameters}
    widest = torch.float64 if torch.float64 in types else torch.float32
    if types <= {widest} and not any(is_half(buffer.dtype) for _, _, buffer in buffers):
        yield
        return
    values = [parameter.data for parameter in parameters]

    def set_back() -> None:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
        for module, name, buffer in buffers:
            module._buffers[name] = buffer

    try:
        try:
            for parameter in parameters:
                parameter.data = parameter.data.to(widest)
            for module, name, buffer in buffers:
                module._buffers[name] = buffer.to(widest)
            runs = _runs(model, example)
        except torch.OutOfMemoryError:
            runs = False
        if not runs:
            set_back()
        yield
    finally:
        set_back()


@torch.no_grad()
def _runs(model: nn.Module, example: Tensor) -> bool:
    try:
        with fork_rng(0, device_of(model)):
            model(prepare_images(model, example).clone())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # it is the user's code, which may raise anything
        return False
    return True


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


def copy_for(model: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """Return a copy of the images in the network's type, which it may change in place."""
    dtype = dtype_of(model) if isinstance(model, nn.Module) and images.is_floating_point() else None
    return images.to(dtype or images.dtype, copy=True)


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
                    stack.enter_context(_evaluated(model))
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
