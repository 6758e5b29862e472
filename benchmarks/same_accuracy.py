"""Does a chain train networks as good as autograd does? Pairs of trainings on the same labels, from
the same weights.

    python benchmarks/same_accuracy.py --pairs 90

They differ in dropout's masks, which a chain draws otherwise, and in rounding. Accuracies on the
test set, their mean difference and its 95 % t interval; the exit status is 1 where the interval
does not hold 0.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import dfal
from dfal.data.datasets import load
from dfal.experiments.runner import _keep_memory
from dfal.nn import training
from dfal.nn.fast_sequential import fast_sequential
from dfal.stats.significance import half_width
from measure import taken_on, write


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the accuracies of a chain and of autograd."
    )
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=90)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "same_accuracy.json"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    _keep_memory()
    data, found = load(asked.data), []
    test = data.test_images.take(torch.arange(len(data.test_labels)))
    for seed in range(asked.pairs):
        drawn = torch.randperm(len(data.labels), generator=dfal.generator(seed, 0, "first"))[
            : asked.labels
        ]
        known = dfal.Pool.new(
            data.images, {int(i): int(data.labels[i]) for i in drawn}
        ).labelled_data()
        pair = []
        for form in (fast_sequential, lambda *_: None):
            training.chain = form  # type: ignore[attr-defined]
            model = dfal.fit(dfal.lenet5, known, dfal.Training(epochs=asked.epochs), seed)
            pair.append(
                float((dfal.predict(model, test).argmax(1) == data.test_labels).double().mean())
            )
        found.append(pair)
    values = 100 * np.array(found)
    difference, half = (
        float((values[:, 0] - values[:, 1]).mean()),
        half_width(values[:, 0] - values[:, 1]),
    )
    settings = {name: getattr(asked, name) for name in ("data", "labels", "epochs", "pairs")}
    means = {"chain": round(values[:, 0].mean(), 2), "autograd": round(values[:, 1].mean(), 2)}
    write(
        asked.out,
        taken_on(("dfal", "torch"))
        | settings
        | means
        | {
            "difference": round(difference, 3),
            "half": round(half, 3),
        },
    )
    both = f"chain {means['chain']} %, autograd {means['autograd']} %"
    print(f"{asked.pairs} pairs, {asked.labels} labels: {both}, {difference:+.2f} ± {half:.2f}")
    return int(abs(difference) > half)


if __name__ == "__main__":
    sys.exit(main())
