"""Closed forms and plain versions that attacks are held against, one image at a time."""

import math

import torch
from torch import Tensor, nn


class Counting(nn.Module):
    """A network that remembers how many images each forward pass had."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        out: Tensor = self.inner(images)
        return out


def affine(inputs: int, classes: int, seed: int) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(inputs, classes)


def affine_distance(model: nn.Linear, x: Tensor, p: float) -> Tensor:
    """min_k |f_k − f_k̂| / ‖w_k − w_k̂‖_q, one image and one class at a time, in float64."""
    q = {1: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)
    w, b, out = model.weight.detach().double(), model.bias.detach().double(), []
    for image in x.double():
        f = w @ image + b
        if len(f) == 1:
            out.append(abs(f[0]) / torch.linalg.vector_norm(w[0], ord=q))
        else:
            k = int(f.argmax())
            gaps = [
                (f[k] - f[j]) / torch.linalg.vector_norm(w[k] - w[j], ord=q)
                for j in range(len(f))
                if j != k
            ]
            out.append(torch.stack(gaps).min())
    return torch.stack(out).float()


def plain_deepfool(
    model: nn.Module, x0: Tensor, p: float, overshoot: float = 0.02, steps: int = 50
) -> tuple[float, bool]:
    """DeepFool as the paper writes it, one image and one gradient at a time."""
    q = {1: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)
    k = int(model(x0[None]).argmax())
    r = torch.zeros_like(x0)
    for _ in range(steps):
        x = (x0 + (1 + overshoot) * r).clone().requires_grad_()
        f = model(x[None])[0]
        gradients = [torch.autograd.grad(f[j], x, retain_graph=True)[0] for j in range(len(f))]
        best = (math.inf, torch.zeros_like(x0))
        for j in range(len(f)):
            w = gradients[j] - gradients[k]
            length = float(
                (f[j] - f[k]).detach().abs() / torch.linalg.vector_norm(w.flatten(), ord=q)
            )
            if j != k and length < best[0]:
                best = (length, w)
        length, w = best
        if p == 2:
            r = r + length * w / w.norm()
        elif p == math.inf:
            r = r + length * w.sign()
        else:
            r = (
                r
                + length
                / torch.linalg.vector_norm(w.flatten(), ord=q) ** (q - 1)
                * w.abs() ** (q - 1)
                * w.sign()
            )
        if int(model((x0 + (1 + overshoot) * r)[None]).argmax()) != k:
            return float(torch.linalg.vector_norm(r.flatten(), ord=p)), True
    return math.inf, False
