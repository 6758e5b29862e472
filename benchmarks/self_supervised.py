"""What SimCLR gives with a few labels: classes among the first images, and accuracy.

    python benchmarks/self_supervised.py --seeds 0 1 --counted 0 1 2 3 4

The first images are drawn at random, or typical in the pixels' principal components or in SimCLR's
features; networks are trained on them as by the recipe `best`, with fewer and smaller steps, from
random weights or from SimCLR's.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import process_time

import torch

from dfal.experiments.recipes import RECIPES
from dfal.experiments.trial import Trial
from measure import taken_on, write

ARMS = [("typical", "random"), ("simclr", "random"), ("simclr", "simclr")]
"""How the first images are chosen, and the weights that the training starts from."""


def main() -> None:
    """Count classes, train networks, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["mnist-5k", "quick-draw-sample"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the trainings")
    parser.add_argument("--counted", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = replace(
        RECIPES["best"]["training"], steps=options.steps, unlabelled_batch=64, augment="shapes"
    )
    results: list[dict[str, object]] = []
    for dataset in options.datasets:
        trial = Trial(
            dataset=dataset, annotations=options.labels, first=options.labels, training=training
        )
        data = trial.data()
        for seed in options.counted:
            for first_by in ("random", "typical", "simclr"):
                began = process_time()
                pool = replace(trial, seed=seed, first_by=first_by).first_pool(data)
                results.append(
                    {
                        "dataset": dataset,
                        "seed": seed,
                        "first_by": first_by,
                        "classes": len(set(pool.labels[pool.labelled].tolist())),
                        "cpu_s": round(process_time() - began, 1),
                    }
                )
                print(results[-1], flush=True)
        for seed in options.seeds:
            for first_by, start in ARMS:
                run = replace(trial, seed=seed, first_by=first_by, start_from=start).run(data)
                accuracy = next(iter(run)).measurements["accuracy"]
                results.append(
                    {
                        "dataset": dataset,
                        "seed": seed,
                        "first_by": first_by,
                        "start_from": start,
                        "accuracy": round(accuracy, 4),
                    }
                )
                print(results[-1], flush=True)
    figures = {**taken_on(["dfal", "torch"]), "labels": options.labels, "results": results}
    write(Path(__file__).parent / "results" / "self_supervised.json", figures)


if __name__ == "__main__":
    main()
