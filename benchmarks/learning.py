"""What each part of a training gives, on labels of MNIST drawn at random.

    python benchmarks/learning.py --seeds 101 102

Nothing is measured on the test set: networks are trained on labels out of the first 50,000 training
images, with these images as the pool, and evaluated on the last 10,000.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import torch

import dfal
from dfal.data import datasets
from dfal.data.image_array import Images
from dfal.experiments.recipes import RECIPES
from measure import taken_on, write

EVALUATED = 10_000
"""Training images on which networks are evaluated."""

BEST: dfal.Training = replace(RECIPES["best"]["training"], augment="shapes")
PARTS = {
    "100 epochs": dfal.Training(),
    "1,500 steps": dfal.Training(steps=1500),
    "labels alone, augmented": replace(BEST, unlabelled="none", without_dropout=True),
    "pseudo-labels": replace(BEST, unlabelled="pseudo-labels"),
    "vat": replace(BEST, unlabelled="vat"),
    "consistency": BEST,
}
"""Name → training; each has what stands above it, but for the three kinds of unlabelled images."""


def main() -> None:
    """Measure every part with every seed, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--labels", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = datasets.load("mnist")
    pool_size = len(data.images) - EVALUATED
    pool_images = Images(data.images, rows=np.arange(pool_size))
    held_out = torch.arange(pool_size, len(data.images))
    images = data.images.take(held_out)
    results = []
    for seed in options.seeds:
        order = torch.randperm(pool_size, generator=torch.Generator().manual_seed(seed))
        known = {int(index): int(data.labels[index]) for index in order[: options.labels]}
        pool = dfal.Pool.new(pool_images, known)
        for name, training in PARTS.items():
            began = process_time()
            model = dfal.fit(
                dfal.lenet5, pool.labelled_data(), training, seed, unlabelled=pool.images
            )
            seconds = process_time() - began
            right = dfal.predict(model, images).argmax(1) == data.labels[held_out]
            accuracy = round(float(right.float().mean()), 4)
            print(f"{name}, seed {seed}: {accuracy:.2%} in {seconds:.0f} CPU s", flush=True)
            results.append(
                {"training": name, "seed": seed, "accuracy": accuracy, "cpu_s": round(seconds)}
            )
    figures = {**taken_on(["dfal", "torch"]), "labels": options.labels, "results": results}
    write(Path(__file__).parent / "results" / "learning.json", figures)


if __name__ == "__main__":
    main()
