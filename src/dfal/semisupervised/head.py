"""A linear layer trained on weighted class probabilities."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import nn

STEPS = 200
"""At most that many steps of L-BFGS."""

GRADIENT = 1e-5
"""The largest entry of the gradient at which training ends."""


@dataclass(frozen=True)
class Head:
    """A linear layer: z → W z + b, the logits.

    Attributes:
        weight: W, a row for each class.
        bias: b.
    """

    weight: Float32[np.ndarray, "c m"]
    bias: Float32[np.ndarray, "c"]

    def __call__(self, rows: Float32[np.ndarray, "n m"]) -> Float32[np.ndarray, "n c"]:
        """Return the logits of rows."""
        logits: Float32[np.ndarray, "n c"] = rows @ self.weight.T + self.bias
        return logits

    def layer(self) -> nn.Linear:
        """Return the same as a frozen layer of PyTorch."""
        classes, width = self.weight.shape
        layer = nn.Linear(width, classes)
        layer.weight.data = torch.from_numpy(self.weight)
        layer.bias.data = torch.from_numpy(self.bias)
        return layer.eval().requires_grad_(False)


def fit_head(
    rows: Float32[np.ndarray, "n m"],
    targets: Float32[np.ndarray, "n c"],
    weights: Float32[np.ndarray, "n"],
    strength: float,
    start: Head | None = None,
) -> Head:
    """Train a head: multinomial logistic regression on soft targets.

    It minimises Σ w_i CE(t_i, softmax(W z_i + b)) / Σ w_i + λ ‖W‖² / 2, which has one minimum.

    Args:
        rows: z.
        targets: t, class probabilities.
        weights: w, not all 0.
        strength: λ > 0.
        start: the head to begin with, which saves steps; zeros by default.
    """
    from scipy.optimize import minimize

    m, c = rows.shape[1], targets.shape[1]
    scale = (weights / weights.sum())[:, None]
    spread = scale * targets  # n × c

    def cost(flat: Float64[np.ndarray, "size"]) -> tuple[float, Float64[np.ndarray, "size"]]:
        weight, bias = _unflatten(flat.astype(np.float32), c, m)
        logits = rows @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        fit = -float(np.vdot(spread, logits))
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1, keepdims=True)
        fit += float(np.vdot(scale, np.log(sums)))
        logits *= scale / sums
        logits -= spread
        slope = np.concatenate(
            [logits.T @ rows + strength * weight, logits.sum(axis=0)[:, None]], 1
        )
        penalty = strength / 2 * float(np.vdot(weight, weight))
        return fit + penalty, slope.astype(np.float64).ravel()

    first = np.zeros((c, m + 1))
    if start is not None:
        first[:, :m], first[:, m] = start.weight, start.bias
    options = {"maxiter": STEPS, "gtol": GRADIENT, "ftol": 0}
    found = minimize(cost, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return Head(*_unflatten(found.x.astype(np.float32), c, m))


def probabilities(logits: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
    """Return the softmax of each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: Float32[np.ndarray, "n c"] = shifted / shifted.sum(axis=1, keepdims=True)
    return out


def _unflatten(
    flat: Float32[np.ndarray, "size"], c: int, m: int
) -> tuple[Float32[np.ndarray, "c m"], Float32[np.ndarray, "c"]]:
    table = flat.reshape(c, m + 1)
    return np.ascontiguousarray(table[:, :m]), table[:, m].copy()
