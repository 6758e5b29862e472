"""With 20 labels, is a network from every image better than labels spread to similar pixels?

    python benchmarks/first_network.py [--datasets mnist-5k …] [--seeds 10 11 12 13 14]

No comparison on 20 labels tells, so that `dfal label` expects it to be: these are the figures that
it rests on, of other seeds than those that docs/learning.md reports. Images are chosen and learnt
from as `dfal label` does without a pretrained network.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

import dfal
from dfal import backbones
from dfal.data.datasets import load
from dfal.data.image_array import Images
from dfal.labelling.settings import PIXELS, UNLABELLED_TRAINING
from dfal.semisupervised.learner import FewLabelLearner
from dfal.strategies import FewLabels
from measure import taken_on, write

AUGMENTATIONS = {"mnist-5k": "shapes", "quick-draw-sample": "drawings", "fashion-mnist": "drawings"}
"""What suits each data set."""
POOL, TEST = 3200, 2000
"""Images at most."""


def main() -> None:
    """Train both, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=[*AUGMENTATIONS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--labels", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[dict[str, object]] = []
    for dataset in options.datasets:
        for seed in options.seeds:
            results.append(accuracies(dataset, options.labels, seed))
            print(results[-1], flush=True)
            figures = {**taken_on(["torch"]), "labels": options.labels, "results": results}
            write(Path(__file__).parent / "results" / "first_network.json", figures)


def accuracies(dataset: str, labels: int, seed: int) -> dict[str, object]:
    """Return the accuracies of both on test images."""
    data = load(dataset)
    classes = len(data.classes)
    part = torch.randperm(len(data.images), generator=dfal.generator(seed, 0, "pool"))[:POOL]
    images, truth = data.images.take(part), data.labels[part]
    test = data.test_images.take(torch.arange(min(TEST, len(data.test_images))))
    shape = (images.shape[1], images.shape[2], images.shape[3])

    pixels = backbones.load(PIXELS, shape)
    neighbourhood = pixels.neighbourhood(pixels.network(images).numpy())
    untrained = nn.Linear(neighbourhood.rows.shape[1], classes)
    nn.init.zeros_(untrained.weight)
    nn.init.zeros_(untrained.bias)
    chosen = FewLabels()(
        untrained,
        dfal.Pool.new(Images(neighbourhood.rows), {}),
        labels,
        dfal.generator(seed, 0, "select"),
    ).indices
    given = np.full(len(truth), -1)
    given[chosen] = truth[chosen]
    head = FewLabelLearner(neighbourhood, classes).update(given).head.layer()
    rows = torch.from_numpy(neighbourhood.space(pixels.network(test).numpy()))

    pool = dfal.Pool.new(images.numpy(), dict(zip(chosen.tolist(), given[chosen], strict=True)))
    network = dfal.fit(
        partial(dfal.lenet5, shape, classes),
        pool.labelled_data(),
        replace(UNLABELLED_TRAINING, augment=AUGMENTATIONS[dataset]),
        seed,
        unlabelled=pool.images,
    )

    def accuracy(logits: torch.Tensor) -> float:
        right = logits.argmax(1) == data.test_labels[: len(test)]
        return round(float(right.float().mean()), 4)

    return {
        "dataset": dataset,
        "seed": seed,
        "classes": len(set(given[chosen].tolist())),
        "labels spread": accuracy(head(rows)),
        "network": accuracy(dfal.predict(network, test)),
    }


if __name__ == "__main__":
    main()
