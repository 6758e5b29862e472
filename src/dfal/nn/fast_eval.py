"""Fold batch norm and split self-attention, for networks that are evaluated by autograd."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dfal.nn.evaluation import is_unchanged
from dfal.nn.inference import differentiable_logits
from dfal.seeding import fork_rng

TOLERANCE = 1e-4
"""Relative difference of logits and gradients from which on a network is left as it was."""


@contextlib.contextmanager
def fast_eval(model: nn.Module, image: Float[Tensor, "1 *image"]) -> Iterator[None]:
    """Let a network compute the same in less time, for a block in which nothing is trained.

    Batch norm is folded into the convolutions before it. On the CPU the weights of convolutions lie
    with the channels last in memory too, as PyTorch's library computes input gradients faster so.
    Self-attention splits its queries, keys and values so that their gradients are put together by
    one copy; PyTorch's own way adds three tensors that are mostly zeros. All of it is left out
    where an example shows that logits or gradients would change by more than rounding. Afterwards
    the network is as it was.

    Args:
        model: in evaluation mode, without gradients for its parameters.
        image: an example.
    """
    with contextlib.ExitStack() as stack:
        try:
            with fork_rng(0, image.device):
                convolutions, want = _traced(model, image)
                rewrites: list[_Convolution | _SelfAttention] = [
                    *convolutions,
                    *_self_attentions(model),
                ]
                if rewrites:
                    with contextlib.ExitStack() as trial:
                        for rewrite in rewrites:
                            trial.enter_context(rewrite.applied())
                        if _close(_outputs(model, image), want):
                            stack.push(trial.pop_all())
        except torch.OutOfMemoryError:
            raise
        except Exception:  # noqa: S110  it is the user's code, which is called again without this
            pass
        yield


@dataclass(frozen=True)
class _Convolution:
    """A convolution, and the batch norm that alone takes its output; None where there is none."""

    module: nn.Conv2d
    norm: nn.BatchNorm2d | None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the convolution do what the batch norm does, for a block."""
        module, norm = self.module, self.norm
        weight, bias = module.weight.data, module.bias
        new_weight, new_bias = weight, bias
        if norm is not None and norm.running_mean is not None and norm.running_var is not None:
            new_weight, new_bias = fuse_conv_bn_weights(
                *(module.weight, bias, norm.running_mean, norm.running_var, norm.eps),
                *(norm.weight, norm.bias),
            )
            new_bias.requires_grad_(False)
            norm.__dict__["forward"] = _unchanged
        if weight.device.type == "cpu":
            new_weight = new_weight.contiguous(memory_format=torch.channels_last)
        module.weight.data, module.bias = new_weight.data, new_bias
        try:
            yield
        finally:
            module.weight.data, module.bias = weight, bias
            if norm is not None:
                norm.__dict__.pop("forward", None)


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class _SelfAttention:
    """An attention whose queries, keys and values are linear functions of one tensor."""

    module: nn.MultiheadAttention

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Split queries, keys and values so that their gradients need one copy, for a block."""
        self.module.__dict__["forward"] = self._forward
        try:
            yield
        finally:
            self.module.__dict__.pop("forward", None)

    def _forward(  # noqa: PLR0917  it is PyTorch's signature
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        module = self.module
        is_masked = is_causal or attn_mask is not None or key_padding_mask is not None
        is_of_itself = query is key is value and query.ndim == 3
        if need_weights or is_masked or not is_of_itself:
            return nn.MultiheadAttention.forward(
                *(module, query, key, value, key_padding_mask, need_weights),
                *(attn_mask, average_attn_weights, is_causal),
            )
        n, tokens, width = query.shape
        projected = F.linear(query, module.in_proj_weight, module.in_proj_bias)
        of_heads = projected.view(n, tokens, 3, module.num_heads, module.head_dim)
        q, k, v = (part.transpose(1, 2) for part in of_heads.unbind(2))
        attended = F.scaled_dot_product_attention(q, k, v)
        return module.out_proj(attended.transpose(1, 2).reshape(n, tokens, width)), None


def _self_attentions(model: nn.Module) -> list[_SelfAttention]:
    return [
        _SelfAttention(module)
        for module in model.modules()
        if type(module) is nn.MultiheadAttention
        and is_unchanged(module)
        and module.batch_first
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
    ]


def _traced(model: nn.Module, image: Tensor) -> tuple[list[_Convolution], list[Tensor]]:
    """Return the convolutions that are called once, and logits and gradient of an example."""
    outputs: dict[nn.Conv2d, list[Tensor]] = {}
    inputs: dict[nn.BatchNorm2d, list[Tensor]] = {}
    shared = Counter(
        id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)
    )
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if type(module) is nn.Conv2d and shared[id(module._parameters.get("weight"))] == 1:

                def keep_output(module: nn.Module, _: object, out: Tensor) -> None:
                    outputs.setdefault(module, []).append(out)  # type: ignore[arg-type]

                stack.callback(module.register_forward_hook(keep_output).remove)
            elif (
                type(module) is nn.BatchNorm2d
                and module.running_mean is not None
                and is_unchanged(module)
            ):

                def keep_input(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
                    inputs.setdefault(module, []).append(arguments[0])  # type: ignore[arg-type]

                stack.callback(module.register_forward_pre_hook(keep_input).remove)
        x = image.detach().clone().requires_grad_()
        f = differentiable_logits(model, x)
    users = _users(f)
    normed = {
        id(given[0]): norm for norm, given in inputs.items() if len(given) == 1
    }  # a tensor → the batch norm that takes it
    convolutions = []
    for convolution, given in outputs.items():
        if len(given) == 1:
            norm = normed.get(id(given[0])) if users[given[0].grad_fn] == 1 else None
            convolutions.append(_Convolution(convolution, norm))
    return convolutions, [f.detach(), *torch.autograd.grad(f[0, 0], x)]


def _users(f: Tensor) -> "Counter[object]":
    """Return how many operations use the output of each operation of the graph of f."""
    users: Counter[object] = Counter()
    waiting, seen = [f.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        before = [following for following, _ in node.next_functions]
        users.update(before)
        waiting += before
    return users


def _outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    x = image.detach().clone().requires_grad_()
    f = differentiable_logits(model, x)
    return [f.detach(), *torch.autograd.grad(f[0, 0], x)]


def _close(found: list[Tensor], want: list[Tensor]) -> bool:
    return all(
        bool((a - b).abs().max() <= TOLERANCE * b.abs().max())
        for a, b in zip(found, want, strict=True)
    )
