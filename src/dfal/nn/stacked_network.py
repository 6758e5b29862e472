"""Networks of one structure as one: gradients and losses of all of them in one call.

Weights have a dimension of slots before their own, one slot for each network, and `torch.vmap`
makes one batched operation of what the networks compute. The shapes never depend on what the slots
hold, so that a network's result does not depend on those in the other slots.
"""

import copy
import math
import pickle
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from dfal.nn.inference import unwrap_logits
from dfal.nn.keyed_random import keep_mask

TOLERANCE = 0.01
"""Largest difference from a gradient by autograd, as a part of its length."""

Weights = dict[str, Tensor]


class Batch(NamedTuple):
    """A mini-batch of each network.

    Attributes:
        images: x.
        targets: t, class probabilities.
        weights: w, of each image in the loss.
    """

    images: Float[Tensor, "s b *image"]
    targets: Float[Tensor, "s b c"]
    weights: Float[Tensor, "s b"]


class UnstackableError(Exception):
    """The networks cannot be computed as one, so that each is to be trained on its own."""


def skeleton(model: nn.Module) -> bytes | None:
    """Return a network without its weights, in the mode in which it is; None if it is unstackable.

    Unstackable are networks with batch norm, whose statistics would count the rows that fill up a
    mini-batch, or instance norm, with another dropout than `nn.Dropout`, and those that pickle
    cannot send.

    Args:
        model: any network.
    """
    for layer in model.modules():
        if isinstance(layer, _NormBase):
            return None
        if isinstance(layer, _DropoutNd) and type(layer) is not nn.Dropout:
            return None
    try:
        return pickle.dumps(copy.deepcopy(model).to("meta"))
    except Exception:  # it is the user's class, which may raise anything
        return None


def trained_weights(model: nn.Module) -> Weights:
    """Return a network's parameters that are trained."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def fixed_weights(model: nn.Module) -> Weights:
    """Return a network's frozen parameters and buffers."""
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    return frozen | dict(model.named_buffers())


class StackedNetwork:
    """Computes networks of one structure in one call.

    Args:
        structure: what `skeleton` returned.
        trained, fixed: the weights of one such network.
        images: one mini-batch, whose size all others have where there is dropout.

    Attributes:
        classes: how many logits an image has.

    Raises:
        UnstackableError: where the networks cannot be computed so, or their gradients differ from
            those of autograd.
    """

    def __init__(
        self,
        structure: bytes,
        trained: Weights,
        fixed: Weights,
        images: Float[Tensor, "b *image"],
    ):
        try:
            self._training, self._evaluated = _with_masks(structure), pickle.loads(structure).eval()
        except Exception as error:  # its class may not be found in another process
            raise UnstackableError(str(error)) from error
        self._names = list(trained)
        self._shapes = [tensor.shape for tensor in trained.values()]
        self._sizes = [tensor.numel() for tensor in trained.values()]
        self.classes = 0
        self._masked = [m for m in self._training.modules() if isinstance(m, _MaskedDropout)]
        try:
            self._check(structure, trained, fixed, images)
        except UnstackableError:
            raise
        except Exception as error:  # it is the user's code, which may raise anything
            raise UnstackableError(str(error)) from error

    def flat(self, trained: Mapping[str, Tensor]) -> Float[Tensor, "p"]:
        """Return the trained parameters of a network as one vector."""
        return torch.cat([trained[name].flatten() for name in self._names])

    def unflat(self, vectors: Float[Tensor, "*s p"]) -> Weights:
        """Return vectors of parameters by name."""
        parts = vectors.split(self._sizes, dim=-1)
        return {
            name: part.reshape(*vectors.shape[:-1], *shape)
            for name, shape, part in zip(self._names, self._shapes, parts, strict=True)
        }

    def gradients(
        self,
        vectors: Float[Tensor, "s p"],
        fixed: Weights,
        batch: Batch,
        keys: Int32[Tensor, "s 2"],
    ) -> Float[Tensor, "s p"]:
        """Return the gradient of Σ w_i CE(t_i, f(x_i)) of each network, with dropout.

        Args:
            vectors: the trained parameters.
            fixed: the other parameters and the buffers, with a dimension of slots.
            batch: x, t and w.
            keys: decide the dropout.
        """
        masks = [
            keep_mask(keys, layer.numbers, layer.p) * layer.scale
            for layer in self._masked
            if layer.numbers is not None
        ]
        by_name: Weights = vmap(grad(self._loss_with_dropout))(
            self.unflat(vectors), fixed, masks, batch
        )
        for layer in self._masked:
            layer.mask = None
        return torch.cat([by_name[name].flatten(1) for name in self._names], dim=1)

    @torch.no_grad()
    def losses(
        self, vectors: Float[Tensor, "s p"], fixed: Weights, batch: Batch
    ) -> Float[Tensor, "s"]:
        """Return Σ w_i CE(t_i, f(x_i)) of each network in evaluation mode."""
        losses: Tensor = vmap(self._loss)(self.unflat(vectors), fixed, batch)
        return losses

    @torch.no_grad()
    def probabilities(
        self, vectors: Float[Tensor, "s p"], fixed: Weights, images: Float[Tensor, "s b *image"]
    ) -> Float[Tensor, "s b c"]:
        """Return the class probabilities by each network in evaluation mode."""
        p: Tensor = vmap(self._probabilities)(self.unflat(vectors), fixed, images)
        return p

    def slopes(
        self,
        vectors: Float[Tensor, "s p"],
        fixed: Weights,
        images: Float[Tensor, "s b *image"],
        targets: Float[Tensor, "s b c"],
    ) -> Float[Tensor, "s b *image"]:
        """Return the gradient of each CE(t_i, f(x_i)) by the image x_i, in evaluation mode."""
        slopes: Tensor = vmap(grad(self._sum_of_losses))(
            images, self.unflat(vectors), fixed, targets
        )
        return slopes

    def _loss_with_dropout(
        self, trained: Weights, fixed: Weights, masks: list[Tensor], batch: Batch
    ) -> Tensor:
        for layer, mask in zip(self._masked, masks, strict=True):
            layer.mask = mask
        return _loss(_logits(self._training, trained | fixed, batch.images), batch)

    def _loss(self, trained: Weights, fixed: Weights, batch: Batch) -> Tensor:
        return _loss(_logits(self._evaluated, trained | fixed, batch.images), batch)

    def _sum_of_losses(
        self, images: Tensor, trained: Weights, fixed: Weights, targets: Tensor
    ) -> Tensor:
        f = _logits(self._evaluated, trained | fixed, images)
        return F.cross_entropy(f, targets, reduction="sum")

    def _probabilities(self, trained: Weights, fixed: Weights, images: Tensor) -> Tensor:
        return _logits(self._evaluated, trained | fixed, images).softmax(1)

    def _check(self, structure: bytes, trained: Weights, fixed: Weights, images: Tensor) -> None:
        """Compare the gradients of two networks with autograd's, without dropout.

        The second half of the mini-batch has no weight: networks that mix images differ here.
        """
        plain = _with_masks(structure)
        vector = self.flat(trained)
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
        some = max(1, len(images) // 2)
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        loss = F.cross_entropy(_logits(plain, leaves | fixed, images[:some]), labels[:some])
        want = self.flat(
            dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        )
        with torch.no_grad():
            f = _logits(self._training, trained | fixed, images)
        self.classes = f.shape[1]
        end = 0
        for layer in self._masked:
            end = layer.number(end, images.device)
        weights = (torch.arange(len(images), device=images.device) < some) / some
        targets = F.one_hot(labels, self.classes).to(f.dtype)
        vectors, *batches = (
            tensor.expand(2, *tensor.shape).contiguous()
            for tensor in (vector, images, targets, weights.to(vector.dtype))
        )
        batch = Batch(*batches)
        both = {name: tensor.expand(2, *tensor.shape) for name, tensor in fixed.items()}
        # A first pass with dropout shows whether it can be had at all.
        keys = torch.zeros(2, 2, dtype=torch.int32, device=images.device)
        self.gradients(vectors, both, batch, keys)
        dropout, self._masked = self._masked, []
        try:
            got = self.gradients(vectors, both, batch, keys)
        finally:
            self._masked = dropout
        if not bool(((got - want).norm(dim=1) <= TOLERANCE * want.norm()).all()):
            raise UnstackableError("gradients of stacked networks differ from those of autograd")


def _loss(f: Float[Tensor, "b c"], batch: Batch) -> Tensor:
    return (F.cross_entropy(f, batch.targets, reduction="none") * batch.weights).sum()


def _logits(module: nn.Module, weights: Weights, images: Tensor) -> Float[Tensor, "b c"]:
    f = unwrap_logits(functional_call(module, weights, (images.clone(),)))
    if f.ndim == 1:
        f = f.unsqueeze(1)
    return F.pad(f, (1, 0)) if f.shape[1] == 1 else f


class _MaskedDropout(nn.Module):
    """Dropout whose mask is given to it.

    Args:
        p: the probability of 0.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p, self.scale = p, 1 / (1 - p) if p < 1 else 0.0
        self.mask: Tensor | None = None
        self.numbers: Tensor | None = None
        self._shapes: list[torch.Size] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is not None:
            return x * self.mask
        self._shapes.append(x.shape)
        return x

    def number(self, first: int, device: torch.device) -> int:
        """Number the elements of its input, after one forward pass.

        Args:
            first: their first number.
            device: on which the numbers are needed.

        Returns:
            The number after their last.

        Raises:
            UnstackableError: where a pass does not call it exactly once.
        """
        if len(self._shapes) != 1:
            raise UnstackableError("a dropout layer is not called once in a forward pass")
        (shape,) = self._shapes
        end = first + math.prod(shape)
        self.numbers = torch.arange(first, end, dtype=torch.int32, device=device).view(shape)
        return end


def _with_masks(structure: bytes) -> nn.Module:
    """Return a network in which dropout that is on takes its mask from outside."""
    module: nn.Module = pickle.loads(structure)
    if type(module) is nn.Dropout:
        return _replacement(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, _replacement(child))
    return module


def _replacement(layer: nn.Dropout) -> nn.Module:
    return _MaskedDropout(layer.p) if layer.training and layer.p else nn.Identity()
