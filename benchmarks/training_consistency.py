"""What a step of training on unlabelled images costs: LeNet5, 32 labelled and 128 other digits.

    python benchmarks/training_consistency.py

All sides take turns in one process of one thread, and the times are CPU times of the process, since
other work may run beside: compare the ratios, which are medians over the turns. All sides take the
same steps (`dfal.nn.consistency`) with the same augmentation.

- eager: PyTorch's modules, autograd and Adam as they come.
- apart: dfal without the 1 × 1 convolution and the linear layer as one matrix.
- dfal: as `dfal.fit` trains.

The parts of a step are those of dfal, each timed alone.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import dfal
from dfal.data.datasets import Dataset, load
from dfal.experiments.executors.base import keep_memory
from dfal.nn import fast_sequential, training, training_steps
from dfal.nn.consistency import ConsistencyStep
from dfal.nn.custom_augmentation import load_augmentation
from dfal.nn.train_mode import train_mode
from dfal.seeding import generator
from measure import taken_on, write

BATCH, NEVER = 32, 10**9
SETTINGS = dfal.Training(unlabelled="consistency", augment="shapes", average=0.999)


def labelled(data: Dataset) -> tuple[Tensor, Tensor]:
    rows = torch.arange(100) * (len(data.images) // 100)
    return data.images.take(rows), data.labels[rows]


def step_of(side: str, data: Dataset) -> tuple[Callable[[], Any], dict[str, Callable[[], Any]]]:
    """A step of a side, and its parts."""
    torch.manual_seed(0)
    model = dfal.lenet5()
    set_mode = train_mode(model, without_dropout=True)
    images, labels = labelled(data)
    if side == "eager":
        gradients: Any = training_steps.AutogradGradients(model.eval(), set_mode)
        optimiser = torch.optim.Adam(model.parameters())
        mean = training_steps.RunningMean(list(model.parameters()), SETTINGS.average)
    else:
        vectors = training._flatten_parameters(model)
        gradients = training_steps.gradients(model, set_mode)
        optimiser = torch.optim.Adam(vectors, fused=True)
        mean = training_steps.RunningMean(vectors, SETTINGS.average)
    rng = generator(0, 0, "looks")
    augment = load_augmentation(SETTINGS.augment)
    checked = dfal.LabelledData(images, labels, torch.arange(len(labels)))
    consistency = ConsistencyStep(
        gradients,
        images=data.images,
        augment=augment,
        settings=SETTINGS,
        labels=labels,
        label_check=training_steps.LabelCheck(checked, checked),
        rng=rng,
    )

    def update() -> None:
        optimiser.step()
        mean.update()

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        consistency(images[:BATCH], labels[:BATCH])
        update()

    step()
    weak = data.images.take(torch.arange(SETTINGS.unlabelled_batch))
    p = gradients.probabilities(weak)
    many, targets = torch.cat([images[:BATCH], weak, weak]), torch.cat([p[:BATCH], p, p])
    weights = torch.full((len(many),), 1 / len(many))
    parts = {
        "weak looks": lambda: augment.weak(weak, rng),
        "strong looks": lambda: augment.strong(many[: BATCH + len(weak)], rng),
        "probabilities": lambda: gradients.probabilities(weak),
        "adversarial changes": lambda: consistency._adversarial(weak, p),
        "gradient of the loss": lambda: gradients.add(many, targets, weights),
        "Adam and running mean": update,
    }
    return step, parts


def called(side: str, function: Callable[[], Any]) -> float:
    most = NEVER if side == "apart" else fast_sequential.MIN_CONV_LINEAR_IMAGES
    with patch.object(fast_sequential, "MIN_CONV_LINEAR_IMAGES", most):
        start = process_time()
        function()
        return 1000 * (process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time a training step on unlabelled images.")
    parser.add_argument("--turns", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    data = load("mnist-5k")
    sides = {side: step_of(side, data) for side in ("eager", "apart", "dfal")}
    times: dict[str, list[float]] = {side: [] for side in sides}
    parts: dict[str, list[float]] = {part: [] for part in sides["dfal"][1]}
    for turn in range(asked.turns):
        for side, (step, of_side) in sides.items():
            milliseconds = called(side, step)
            if turn:
                times[side].append(milliseconds)
            if side == "dfal" and turn:
                for part, function in of_side.items():
                    parts[part].append(called(side, function))
    figures = {
        "note": "CPU time of one thread; other work was running beside",
        "step_ms": {side: round(median(each), 2) for side, each in times.items()},
        "times_as_long_as_dfal": {
            side: round(median(a / b for a, b in zip(each, times["dfal"], strict=True)), 2)
            for side, each in times.items()
        },
        "parts_ms": {part: round(median(each), 2) for part, each in parts.items()},
    }
    out = Path(__file__).parent / "results" / "training-consistency.json"
    write(out, taken_on(("dfal", "torch")) | {"turns": asked.turns} | figures)
    print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
