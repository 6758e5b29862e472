"""Which labels does the review suspect, and how far are confidences from accuracy, before and after
calibration?

    python benchmarks/doubts.py [--seeds 100 101] [--data mnist-5k quick-draw-sample]

LeNet5 is trained on 100, 220 or 400 labels, for 10 or 40 epochs, of which 0, 3 or 10 % are wrong at
random. As in `dfal label` each label is judged by a network that was trained on the other two
thirds. Temperatures are fitted to 100 other images and measured on 500. The constants of
`dfal.labelling.learning.doubts` were chosen on the seeds 0 and 1: report others.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.special import softmax
from torch import nn

import dfal
from dfal.data.datasets import Dataset, load
from dfal.labelling.learning.doubts import doubtful
from dfal.models.calibration import temperature
from dfal.nn.networks import build
from measure import taken_on, write

FOLDS, CALIBRATED, FRESH = 3, 100, 500


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    arguments.add_argument("--data", nargs="+", default=["mnist-5k", "quick-draw-sample"])
    options = arguments.parse_args()
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {
        f"{noise:.0%} wrong": Counter() for noise in (0.0, 0.03, 0.1)
    }
    gaps: dict[str, list[float]] = {"raw": [], "calibrated": []}
    for name in options.data:
        data = load(name)
        for n in (100, 220, 400):
            for epochs in (10, 40):
                for seed in options.seeds:
                    measure(data, n, dfal.Training(epochs=epochs), seed, counts, gaps)
    results: dict[str, Any] = {key: dict(counted) for key, counted in counts.items()}
    for key, values in gaps.items():
        results[f"|confidence − accuracy|, {key}"] = {
            "mean": float(np.mean(values)),
            "largest": float(np.max(values)),
        }
    for key, value in results.items():
        print(key, value)
    write(Path(__file__).parent / "results" / "doubts.json", taken_on(["dfal", "torch"]) | results)


def measure(
    data: Dataset,
    n: int,
    training: dfal.Training,
    seed: int,
    counts: dict[str, Counter[str]],
    gaps: dict[str, list[float]],
) -> None:
    """Count suspicious labels among n, for each fraction of wrong ones; on the true ones, compare
    confidence and accuracy."""
    truth = data.labels.numpy()
    chosen = np.random.default_rng(seed).choice(len(truth), n + CALIBRATED + FRESH, replace=False)
    labelled, fresh_images = chosen[:n], chosen[n:]
    folds = np.arange(n) % FOLDS
    for noise, counted in zip((0.0, 0.03, 0.1), counts.values(), strict=True):
        rng = np.random.default_rng([seed, n])
        wrong = rng.random(n) < noise
        labels = truth[labelled].copy()
        labels[wrong] = (
            labels[wrong] + rng.integers(1, len(data.classes), size=wrong.sum())
        ) % len(data.classes)
        outputs = np.empty((n, len(data.classes)))
        for fold in range(FOLDS):
            model = trained(data, labelled[folds != fold], labels[folds != fold], training, seed)
            outputs[folds == fold] = logits(model, data, labelled[folds == fold])
        suspicious = doubtful(outputs, labels)
        counted["labels"] += n
        counted["wrong"] += int(wrong.sum())
        counted["contradicted"] += int((outputs.argmax(1) != labels).sum())
        counted["suspicious"] += int(suspicious.sum())
        counted["suspicious and wrong"] += int((suspicious & wrong).sum())
        if not noise:
            outputs = logits(trained(data, labelled, labels, training, seed), data, fresh_images)
            t = temperature(outputs[:CALIBRATED], truth[fresh_images[:CALIBRATED]])
            fresh, right = (
                outputs[CALIBRATED:],
                outputs[CALIBRATED:].argmax(1) == truth[fresh_images[CALIBRATED:]],
            )
            for key, scaled in (("raw", fresh), ("calibrated", fresh / t)):
                gaps[key].append(abs(float(softmax(scaled, axis=1).max(1).mean() - right.mean())))


def trained(
    data: Dataset,
    images: Int64[np.ndarray, "n"],
    labels: Int64[np.ndarray, "n"],
    training: dfal.Training,
    seed: int,
) -> nn.Module:
    pool = dfal.Pool.new(data.images, dict(zip(images.tolist(), labels.tolist(), strict=True)))
    shape, classes = data.images.shape, len(data.classes)
    return dfal.fit(lambda: build("lenet5", shape, classes), pool.labelled_data(), training, seed)


def logits(
    model: nn.Module, data: Dataset, images: Int64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n c"]:
    results: Float64[np.ndarray, n] = (
        dfal.predict(model, data.images.take(torch.from_numpy(images))).double().numpy()
    )
    return results


if __name__ == "__main__":
    main()
