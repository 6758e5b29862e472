"""Put a network into evaluation mode, in PyTorch's default modes, for a block."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from dfal.arguments import check_network
from dfal.errors import DfalError
from dfal.nn.network_input import device_of, is_half, prepare_images
from dfal.seeding import fork_rng


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
        stack.enter_context(evaluated(network))
        if example is not None:
            stack.enter_context(_widened(network, example))
        yield network


def is_unchanged(module: nn.Module) -> bool:
    """Return whether a module computes what its class does, and its gradients are autograd's.

    Otherwise a hook is put over it or a parameter of it, or a method over that of its class. It is
    asked wherever layers are computed in another way than by calling them.
    """
    hooks: list[Any] = [
        *(module._forward_hooks, module._forward_pre_hooks),
        *(module._backward_hooks, module._backward_pre_hooks),
    ]
    for parameter in module.parameters(recurse=False):
        hooks += [parameter._backward_hooks, parameter._post_accumulate_grad_hooks]
    return "forward" not in module.__dict__ and not any(hooks)


def _is_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules or module.__dict__.get("_compiled_call_impl") is not None


def _of_inference(tensor: Tensor) -> bool:
    return tensor.is_inference() if not is_lazy(tensor) else False


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
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
