"""Gradients of logits with respect to an image, and distances within which its class is certain."""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dfal.nn.fast_eval import fast_eval
from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.inference import backward_errors, check_logits, differentiable_logits, logits
from dfal.nn.network_input import is_half
from dfal.nn.passes import images_a_pass

GRADIENT_BATCH = 32
"""Images whose gradients of all classes `FusedGradients` has in memory at a time: more do not fit
into a processor's cache."""

SINGLE_GRADIENT_BATCH = 128
"""The same where each image has one gradient only."""

DIRECTIONAL_BATCH = 256
"""Pairs of an image and a direction of one pass, fewer where images are large."""

BATCHED_OPERATIONS = 5e10
"""Floating-point operations of the forward passes of as many images as a GPU is to compute at a
time at least: they take about a millisecond, and less work leaves it idle."""

_FORWARD_MODE = threading.Lock()
"""PyTorch's derivatives in forward mode have global state."""


@runtime_checkable
class LogitGradients(Protocol):
    """What an attack that follows gradients needs of a network in evaluation mode.

    Attributes:
        threads: how many threads can use it at a time with profit.
        rounding: machine epsilon of the half-precision type by which the network rounds its logits;
            0 where there is none.
        batched_pairs: up to how many pairs of an image and a class the gradients of all classes
            take no longer than those of one.
    """

    threads: int
    rounding: float
    batched_pairs: int

    def logits(self, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        """Return the logits, as `inference.logits` does."""

    def logit_gradients(
        self, x: Float[Tensor, "n *image"], order: Int64[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n c"], Iterator[tuple[slice, Float[Tensor, "m n *image"]]]]:
        """Return the logits f, and their gradients w'_k = ∇f_k − ∇f_k̂ with k̂ = order[:, 0].

        They are those of the classes order[:, 1:], some at a time: a slice of these, and their w'.
        """

    def combined_gradient(
        self, x: Float[Tensor, "n *image"], order: Int64[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n c"], Callable[[Tensor], Tensor]]:
        """Return the logits, and a function of numbers c (n, k − 1) that returns Σ_k c_k w'_k.

        The w'_k are those of `logit_gradients`. Each call is one backward pass.
        """

    def directional_derivatives(
        self, x: Float[Tensor, "n *image"], directions: Float[Tensor, "n m *image"]
    ) -> Float[Tensor, "n m c"] | None:
        """Return ⟨∇f_k, r⟩ of each image, direction r and class k.

        It takes about one backward pass a direction, whatever the number of classes.

        Args:
            x: images.
            directions: m of each image, or (1, m, *image), the same for all.

        Returns:
            The derivatives; None where PyTorch has none in forward mode for a layer, or rounding to
            half precision would make them wrong.
        """

    def certified_distance(
        self, f: Float[Tensor, "n c"], k: Int64[Tensor, "n"], p: float
    ) -> Float[Tensor, "n c"]:
        """Return a distance ‖r‖_p within which, for certain, no class overtakes class k.

        With Λ a Lipschitz constant of all layers before the last, it is (f_k − f_j) / (Λ ‖w_k −
        w_j‖₂) for p ≤ 2, and less by D^(1/2 − 1/p) for others, D being the number of pixels. No
        boundary of the linearised network is nearer either, because its slope is none steeper.

        Args:
            f: the logits of n images.
            k: a class of each.
            p: the norm.

        Returns:
            One distance a class j; inf for k itself, and 0 or less where none is known.

        Source:
            Tsuzuku, Sato & Sugiyama: Lipschitz-margin training. NeurIPS 2018, for p = 2.
        """


def gradients_of(model: nn.Module, image: Float[Tensor, "1 *image"]) -> LogitGradients:
    """Return what computes a network's gradients.

    That is without autograd where its layers can be fused (`dfal.nn.fast_sequential`).
    """
    layers = fast_sequential(model, image)
    if layers is not None:
        return FusedGradients(layers, image, model)
    return AutogradGradients(
        model, 0 if image.device.type == "cpu" else _batched_pairs(model, image)
    )


def _batched_pairs(model: nn.Module, image: Float[Tensor, "1 *image"]) -> int:
    """Return how many images a GPU computes at a time in about a millisecond."""
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits(model, image)
    except Exception:  # it is the user's code, which may not like to be counted
        return 0
    pairs = BATCHED_OPERATIONS / max(1, counter.get_total_flops())
    return images_a_pass(image, int(pairs))


@contextlib.contextmanager
def prepared_gradients(
    model: nn.Module, image: Float[Tensor, "1 *image"]
) -> Iterator[LogitGradients]:
    """Yield what computes a network's gradients, for a block in which nothing else changes it."""
    gradients = gradients_of(model, image)
    with contextlib.ExitStack() as stack:
        if isinstance(gradients, AutogradGradients):
            stack.enter_context(fast_eval(model, image))
        yield gradients


class AutogradGradients:
    """Computes gradients by autograd.

    Args:
        model: the network.
        batched_pairs: as in `LogitGradients`. So many images or fewer are repeated for each class,
            so that all gradients take one pass; more take one backward pass a class.
    """

    def __init__(self, model: nn.Module, batched_pairs: int = 0):
        self.model, self.threads, self.batched_pairs = model, 1, batched_pairs
        self.rounding = -1.0  # not known yet
        self._derivatives = [_of_one_pass, _of_repeated_images]

    def logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            f = logits(self.model, x)
            if self.rounding < 0:
                self.rounding = _rounding(self.model, x[:1], f)
        return f

    def logit_gradients(
        self, x: Tensor, order: Tensor
    ) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        if (at_once := self.batched_pairs // max(1, len(x))) > 1:
            return self._of_copies(x, order[:, :1], order[:, 1:].split(at_once, 1))
        f, combine = self.combined_gradient(x, order)

        def gradients() -> Iterator[tuple[slice, Tensor]]:
            for k in range(order.shape[1] - 1):
                of_one = torch.zeros_like(f[:, :1]).expand(-1, order.shape[1] - 1).clone()
                of_one[:, k] = 1
                yield slice(k, k + 1), combine(of_one).unsqueeze(0)

        return f, gradients()

    def _of_copies(
        self, x: Tensor, own: Tensor, parts: Sequence[Tensor]
    ) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        """Return the logits, and the gradients of some classes at a time."""
        f, first = self._of_classes(x, own, parts[0])

        def gradients() -> Iterator[tuple[slice, Tensor]]:
            start = 0
            for part in parts:
                w = self._of_classes(x, own, part)[1] if start else first
                yield slice(start, start + len(w)), w
                start += len(w)

        return f, gradients()

    def _of_classes(
        self, x: Tensor, own: Int64[Tensor, "n 1"], others: Int64[Tensor, "n m"]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "m n *image"]]:
        """Return the logits, and the gradients of m classes, by one pass of m copies of x."""
        m = others.shape[1]
        copies = x.detach().repeat(m, *[1] * (x.ndim - 1)).requires_grad_()
        f = differentiable_logits(self.model, copies)
        with torch.enable_grad():
            gaps = f.gather(1, others.T.reshape(-1, 1)) - f.gather(1, own.repeat(m, 1))
        with backward_errors():
            w = torch.autograd.grad(gaps.sum(), copies)[0]
        return f[: len(x)].detach(), w.view(m, *x.shape)

    def combined_gradient(
        self, x: Tensor, order: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        x = x.detach().requires_grad_()
        f = differentiable_logits(self.model, x)
        with torch.enable_grad():
            gaps = f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])

        def combine(coefficients: Tensor) -> Tensor:
            with backward_errors():
                return torch.autograd.grad(gaps, x, coefficients, retain_graph=True)[0]

        return f.detach(), combine

    def directional_derivatives(self, x: Tensor, directions: Tensor) -> Tensor | None:
        at_once = max(1, images_a_pass(x, DIRECTIONAL_BATCH) // directions.shape[1])
        of_each = directions.expand(len(x), *directions.shape[1:])
        parts = list(zip(x.split(at_once), of_each.split(at_once), strict=True))
        while self._derivatives and self.rounding <= 0:
            with contextlib.suppress(Exception), _forward_mode():  # it is the user's code
                return torch.cat([self._derivatives[0](self.model, *part) for part in parts])
            del self._derivatives[0]
        return None

    def certified_distance(self, f: Tensor, k: Tensor, p: float) -> Tensor:
        return torch.zeros_like(f).scatter(1, k.unsqueeze(1), torch.inf)


@contextlib.contextmanager
def _forward_mode() -> Iterator[None]:
    """Let PyTorch run networks in a form that has derivatives in forward mode, for a block."""
    is_fast = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as stack:
        for context in (_FORWARD_MODE, torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _AnyLayout()):
            stack.enter_context(context)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, of itself
        warnings.filterwarnings("ignore", "There is a performance drop")  # vmap's, of an operation
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(is_fast)


class _AnyLayout(TorchFunctionMode):
    """Leaves out the `memory_format` of `Tensor.contiguous`, which `torch.vmap` does not take."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return func(args[0]) if func is Tensor.contiguous else func(*args, **(kwargs or {}))


def _of_one_pass(model: nn.Module, x: Tensor, directions: Tensor) -> Tensor:
    """Return derivatives along (n, m, *image) directions, with the images computed once."""

    def along(r: Tensor) -> Tensor:
        return _jvp(model, x, r)

    derivatives: Tensor = torch.vmap(along, in_dims=1, out_dims=1)(directions)
    return derivatives


def _of_repeated_images(model: nn.Module, x: Tensor, directions: Tensor) -> Tensor:
    """Return the same for layers that `torch.vmap` does not take."""
    n, m = directions.shape[:2]
    of_pairs = _jvp(model, x.repeat_interleave(m, 0), directions.flatten(0, 1))
    return of_pairs.view(n, m, -1)


def _jvp(model: nn.Module, x: Tensor, r: Tensor) -> Tensor:
    derivatives: Tensor = torch.func.jvp(partial(logits, model), (x,), (r,))[1]
    return derivatives


def _rounding(model: nn.Module, image: Tensor, f: Tensor) -> float:
    """Return by how much a network that computes in half precision rounds its logits f.

    That is the machine epsilon of the coarsest type it computes in, as a network with autocast in
    its forward pass does, where its logits have no more digits than such a type; 0 elsewhere.
    """
    if not any(
        torch.equal(f, f.to(dtype).to(f.dtype)) for dtype in (torch.float16, torch.bfloat16)
    ):
        return 0.0
    with _ComputedTypes() as computed:
        logits(model, image)
    return max((torch.finfo(dtype).eps for dtype in computed.dtypes if is_half(dtype)), default=0.0)


class _ComputedTypes(TorchDispatchMode):
    """Collects the types of all tensors that are computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        outputs = out if isinstance(out, tuple | list) else [out]
        self.dtypes |= {output.dtype for output in outputs if isinstance(output, Tensor)}
        return out


class FusedGradients:
    """Computes the gradients of all classes in one pass through a `FastSequential`."""

    def __init__(self, layers: FastSequential, image: Tensor, model: nn.Module):
        self.layers, self.image, self.threads = layers, image, torch.get_num_threads()
        self.rounding, self.batched_pairs = 0.0, 0
        self._by_autograd = AutogradGradients(model)
        self._slopes: Tensor | None = None

    def logits(self, x: Tensor) -> Tensor:
        return logits(self.layers, x)

    def logit_gradients(
        self, x: Tensor, order: Tensor
    ) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        batch = GRADIENT_BATCH if order.shape[1] > 2 else SINGLE_GRADIENT_BATCH
        fs, ws = zip(*map(self._logit_gradients, x.split(batch), order.split(batch)), strict=True)
        return torch.cat(fs), iter([(slice(None), torch.cat(ws, 1))])

    def combined_gradient(
        self, x: Tensor, order: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        passes = [self.layers.forward(part) for part in x.split(SINGLE_GRADIENT_BATCH)]
        f = check_logits(torch.cat([out for out, _ in passes]), len(x))

        def combine(coefficients: Tensor) -> Tensor:
            of_classes = torch.zeros_like(f).scatter(1, order[:, 1:], coefficients)
            of_classes.scatter_add_(1, order[:, :1], -coefficients.sum(1, keepdim=True))
            parts = of_classes.split(SINGLE_GRADIENT_BATCH)
            gradients = [
                backward(part[None, :, -out.shape[1] :], params=False, inputs=True)[0]
                for part, (out, backward) in zip(parts, passes, strict=True)
            ]
            return torch.cat(gradients)

        return f, combine

    def _logit_gradients(self, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        out, backward = self.layers.forward(x)
        f = check_logits(out, len(x))
        classes = F.one_hot(order, f.shape[1]).to(f.dtype)
        cotangents = (classes[:, 1:] - classes[:, :1]).transpose(0, 1)
        return f, backward(cotangents[..., -out.shape[1] :], params=False, inputs=True)

    def directional_derivatives(self, x: Tensor, directions: Tensor) -> Tensor | None:
        return self._by_autograd.directional_derivatives(x, directions)

    @torch.no_grad()
    def certified_distance(self, f: Tensor, k: Tensor, p: float) -> Tensor:
        if self._slopes is None:
            self._slopes = self._steepest_slopes(f.shape[1])
        distances = ((f.gather(1, k.unsqueeze(1)) - f) / self._slopes[k]).nan_to_num(0.0, torch.inf)
        of_p: Tensor = distances / float(max(1.0, self.image.numel() ** (1 / 2 - 1 / p)))
        return of_p.scatter(1, k.unsqueeze(1), torch.inf)

    def _steepest_slopes(self, classes: int) -> Float[Tensor, "c c"]:
        """Return Λ ‖w_k − w_j‖₂ for each two classes; infinite or NaN where no bound is known."""
        bound = self.layers.lipschitz_bound(self.image)
        if bound is None:
            return torch.full((classes, classes), torch.inf)
        w = bound.last_matrix
        w = w if w.shape[1] > 1 else F.pad(w, (1, 0))  # one logit f counts as the two logits (0, f)
        return bound.constant * torch.cdist(w.T, w.T)
