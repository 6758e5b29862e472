"""Which labels a model has reason to doubt: an estimate of how many are wrong, and of which."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from dfal.models.calibration import log_likelihood
from dfal.stats.agreement import ENOUGH, wilson

LOG_TEMPERATURES = np.linspace(-1.5, 3, 46)
"""Of the models that are considered."""
RATES = np.concatenate([[0.0005, 0.001, 0.002, 0.005], np.linspace(0.01, 0.3, 30)])
"""Fractions of wrong labels that are considered."""
PRIOR_WRONG, PRIOR_RIGHT = 1.0, 99.0
"""What is assumed before looking: 1 wrong label in 100, as if 100 labels had been checked."""
EVIDENCE = 6.63
"""Likelihood ratio, 2 Δ log L, below which all contradictions may be the model's own mistakes (χ²₁,
1 %)."""


def is_reliable(right: int, n: int, commonest: int) -> bool:
    """Return whether a model is right often enough to doubt a label at all.

    Args:
        right: labels that it sees as they are, of images that it was not trained on.
        n: labels it has looked at.
        commonest: labels of the commonest class among them: always seeing that one is no skill.
    """
    return n >= ENOUGH and wilson(right, n)[0] > commonest / n


def doubtful(
    logits: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Return which labels are more likely wrong than right.

    The labels are explained in two ways at once: by a model with some temperature, whose own
    mistakes contradict true labels, and by a fraction ε of labels that are wrong at random, as
    p(label) = (1 − ε) p_T(label) + ε (1 − p_T(label)) / (C − 1). T and ε are those of the largest
    posterior. A label is doubtful where the second term is the larger one and the model sees
    another class. None is where the model is not reliable, or where ε = 0 explains the labels
    nearly as well: the contradictions are then the model's own mistakes.

    Args:
        logits: of models that were trained on neither these images nor their twins.
        labels: the classes that people gave.
    """
    n, classes = logits.shape
    seen = logits.argmax(1)
    nothing = np.zeros(n, bool)
    if not is_reliable(int((seen == labels).sum()), n, int(np.bincount(labels, minlength=1).max())):
        return nothing
    best, best_true, evidence, honest = np.inf, np.ones(n), -np.inf, -np.inf
    for log_t in LOG_TEMPERATURES:
        p = np.exp(log_likelihood(logits, labels, log_t))
        prior = -log_t * log_t / 2
        honest = max(honest, np.log(np.maximum(p, 1e-300)).sum() + prior)
        for rate in RATES:
            wrong = rate * (1 - p) / (classes - 1)
            total = np.log((1 - rate) * p + wrong).sum() + prior
            evidence = max(evidence, total)
            cost = -total - PRIOR_WRONG * np.log(rate) - PRIOR_RIGHT * np.log1p(-rate)
            if cost < best:
                best, best_true = cost, (1 - rate) * p / ((1 - rate) * p + wrong)
    if 2 * (evidence - honest) < EVIDENCE:
        return nothing
    found: Bool[np.ndarray, n] = (best_true < 0.5) & (seen != labels)
    return found
