"""Compare the accuracy of networks trained by fused layers and by autograd, in pairs.

Both of a pair start from the same weights and train on the same labels.

    python benchmarks/same_accuracy.py --pairs 90

They differ in dropout's masks, which fused layers draw otherwise, and in rounding. Accuracies on
the test set, their mean difference and its 95 % t interval; the exit status is 1 where the interval
does not contain 0.
"""

import argparse
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

import dfal
from dfal.data.datasets import load
from dfal.experiments.executors.base import keep_memory
from dfal.nn import training_steps
from dfal.nn.fast_sequential import fast_sequential
from dfal.stats.significance import half_width
from measure import taken_on, write


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the accuracies of fused layers and of autograd."
    )
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=90)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "same_accuracy.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    data, pairs = load(options.data), []
    test = data.test_images.take(torch.arange(len(data.test_labels)))
    for seed in range(options.pairs):
        drawn = torch.randperm(len(data.labels), generator=dfal.generator(seed, 0, "first"))[
            : options.labels
        ]
        known = dfal.Pool.new(
            data.images, {int(i): int(data.labels[i]) for i in drawn}
        ).labelled_data()
        pair = []
        for layers in (fast_sequential, lambda *_: None):
            with patch.object(training_steps, "fast_sequential", layers):
                model = dfal.fit(dfal.lenet5, known, dfal.Training(epochs=options.epochs), seed)
            pair.append(
                float((dfal.predict(model, test).argmax(1) == data.test_labels).double().mean())
            )
        pairs.append(pair)
    values = 100 * np.array(pairs)
    difference, half = (
        float((values[:, 0] - values[:, 1]).mean()),
        half_width(values[:, 0] - values[:, 1]),
    )
    settings = {name: getattr(options, name) for name in ("data", "labels", "epochs", "pairs")}
    means = {"chain": round(values[:, 0].mean(), 2), "autograd": round(values[:, 1].mean(), 2)}
    write(
        options.out,
        taken_on(("dfal", "torch"))
        | settings
        | means
        | {
            "difference": round(difference, 3),
            "half": round(half, 3),
        },
    )
    both = f"chain {means['chain']} %, autograd {means['autograd']} %"
    print(f"{options.pairs} pairs, {options.labels} labels: {both}, {difference:+.2f} ± {half:.2f}")
    return int(abs(difference) > half)


if __name__ == "__main__":
    sys.exit(main())
