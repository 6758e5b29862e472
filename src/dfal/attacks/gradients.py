"""A network seen from one image: its logits, how they change with the pixels, and how far their
order is sure to hold."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.inference import backward_errors, check_logits, differentiable_logits, is_half, logits

PART = 32
"""Images of which a chain has all gradients in memory at a time: more do not fit into a processor's
cache."""

ONE = 128
"""The same where each has one gradient only."""


@runtime_checkable
class Slopes(Protocol):
    """What an attack that follows gradients asks of a network in evaluation mode.

    Attributes:
        threads: how many threads may ask at a time with profit.
        rounding: machine epsilon of the half-precision type by which the network rounds its logits;
        0 where there is none.
    """

    threads: int
    rounding: float

    def logits(self, x: Float[Tensor, "n *image"]) -> Float[Tensor, "n c"]:
        """As `inference.logits`."""

    def between(
        self, x: Float[Tensor, "n *image"], order: Int64[Tensor, "n k"]
    ) -> tuple[Float[Tensor, "n c"], Iterator[tuple[slice, Float[Tensor, "m n *image"]]]]:
        """The logits f, and w'_k = ∇f_k − ∇f_k̂ for the classes order[:, 1:], some at a time; k̂ =
        order[:, 0]."""

    def certain(
        self, f: Float[Tensor, "n c"], k: Int64[Tensor, "n"], p: float
    ) -> Float[Tensor, "n c"]:
        """A distance ‖r‖_p within which an image with these logits has each class behind class k,
        for certain; inf for k itself, and 0 or less where none is known.

        With Λ a Lipschitz constant of all layers before the last, it is (f_k − f_j) / (Λ ‖w_k −
        w_j‖₂) for p ≤ 2, and less by D^(1/2 − 1/p) for others, D being the number of pixels
        (Tsuzuku, Sato & Sugiyama 2018, for p = 2). No boundary of the linearised network is nearer
        either, because its slope is none steeper.
        """


def slopes(model: nn.Module, image: Float[Tensor, "1 *image"]) -> Slopes:
    """Without autograd for a chain of known layers on the CPU; by autograd for any other
    network."""
    found = fast_sequential(model, image)
    return ByAutograd(model) if found is None else ByChain(found, image)


class ByAutograd:
    """One backward pass a class."""

    def __init__(self, model: nn.Module):
        self.model, self.threads = model, 1
        self.rounding = -1.0  # not known yet

    def logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            f = logits(self.model, x)
            if self.rounding < 0:
                self.rounding = _rounding(self.model, x[:1], f)
        return f

    def between(self, x: Tensor, order: Tensor) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        x = x.detach().requires_grad_()
        f = differentiable_logits(self.model, x)
        with torch.enable_grad():
            gaps = f.gather(1, order[:, 1:]) - f.gather(1, order[:, :1])

        def gradients() -> Iterator[tuple[slice, Tensor]]:
            for k in range(gaps.shape[1]):
                with backward_errors():
                    (w,) = torch.autograd.grad(
                        gaps[:, k].sum(), x, retain_graph=k < gaps.shape[1] - 1
                    )
                yield slice(k, k + 1), w.unsqueeze(0)

        return f.detach(), gradients()

    def certain(self, f: Tensor, k: Tensor, p: float) -> Tensor:
        return torch.zeros_like(f).scatter(1, k.unsqueeze(1), torch.inf)


def _rounding(model: nn.Module, image: Tensor, f: Tensor) -> float:
    """Machine epsilon of the coarsest half-precision type that the network computes in, as one with
    autocast in its forward pass does, where its logits have no more digits than such a type; 0
    elsewhere."""
    if not any(
        torch.equal(f, f.to(dtype).to(f.dtype)) for dtype in (torch.float16, torch.bfloat16)
    ):
        return 0.0
    with _Types() as types:
        logits(model, image)
    return max((torch.finfo(dtype).eps for dtype in types.seen if is_half(dtype)), default=0.0)


class _Types(TorchDispatchMode):
    """Remembers the types of all tensors that are computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen |= {
            one.dtype
            for one in (out if isinstance(out, tuple | list) else [out])
            if isinstance(one, Tensor)
        }
        return out


class ByChain:
    """All classes in one pass through a `Chain`."""

    def __init__(self, layers: FastSequential, image: Tensor):
        self.chain, self.image, self.threads = layers, image, torch.get_num_threads()
        self.rounding = 0.0
        self._lengths: Tensor | None = None

    def logits(self, x: Tensor) -> Tensor:
        return logits(self.chain, x)

    def between(self, x: Tensor, order: Tensor) -> tuple[Tensor, Iterator[tuple[slice, Tensor]]]:
        part = PART if order.shape[1] > 2 else ONE
        fs, ws = zip(*map(self._between, x.split(part), order.split(part)), strict=True)
        return torch.cat(fs), iter([(slice(None), torch.cat(ws, 1))])

    def _between(self, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        out, back = self.chain.forward(x)
        f = check_logits(out, len(x))
        between = F.one_hot(order, f.shape[1]).to(f.dtype)
        cotangents = (between[:, 1:] - between[:, :1]).transpose(0, 1)
        return f, back(cotangents[..., -out.shape[1] :], learn=False, inwards=True)

    @torch.no_grad()
    def certain(self, f: Tensor, k: Tensor, p: float) -> Tensor:
        if self._lengths is None:
            known = self.chain.steepness(self.image)
            constant, matrix = known or (torch.inf, torch.zeros(1, f.shape[1]))
            matrix = matrix if matrix.shape[1] > 1 else F.pad(matrix, (1, 0))
            self._lengths = constant * torch.cdist(matrix.T, matrix.T)
        distances = ((f.gather(1, k.unsqueeze(1)) - f) / self._lengths[k]).nan_to_num(
            0.0, torch.inf
        )
        of_p: Tensor = distances / float(max(1.0, self.image.numel() ** (1 / 2 - 1 / p)))
        return of_p.scatter(1, k.unsqueeze(1), torch.inf)
