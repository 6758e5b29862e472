"""Temperature scaling: confidences that are as high as the model is often right."""

import numpy as np
import torch
from jaxtyping import Float64, Int64

COARSE_STEP, FINE_STEP = 0.1, 0.005
"""Steps of log T of the first and of the second search."""

MIN_LOG_T, MAX_LOG_T = -3.0, 5.0
"""Bounds of log T."""


def temperature(logits: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, "n"]) -> float:
    """Return the temperature T for which softmax(logits / T) fits labels that were not trained on.

    It minimises the negative log-likelihood plus (log T)² / 2, a normal prior around T = 1 that
    counts as much as a few labels do: five of them do not move it far.

    Args:
        logits: of images that the model was not trained on.
        labels: their classes.

    Source:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """

    def cost(log_t: float) -> float:
        return float(log_t * log_t / 2 - log_likelihood(logits, labels, log_t).sum())

    around = min(np.arange(MIN_LOG_T, MAX_LOG_T + COARSE_STEP, COARSE_STEP), key=cost)
    best = min(
        np.arange(around - COARSE_STEP, around + COARSE_STEP + FINE_STEP, FINE_STEP), key=cost
    )
    return float(np.exp(best))


def log_likelihood(
    logits: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, "n"], log_t: float
) -> Float64[np.ndarray, "n"]:
    """Return the log-probability of each label at the temperature exp(log_t)."""
    scaled = torch.from_numpy(logits * np.exp(-log_t)).log_softmax(1).numpy()
    likelihood: Float64[np.ndarray, n] = scaled[np.arange(len(labels)), labels]
    return likelihood
