"""What a training step costs: LeNet5, one thread, alone and beside another process that does the
same.

    python benchmarks/training.py
    python benchmarks/training.py --batch 512 --sides eager,dfal,compiled --repeats 3

All sides take turns in one process, which keeps its memory as a study's do
(`dfal.experiments.executors.base`); a run is one process, or two at once. Ratios are those of a
process's medians.

- eager: PyTorch's modules, autograd and Adam as they come.
- dfal: `dfal.fit`: a chain, Adam in one kernel over one vector.
- vmap: ten networks in step, PyTorch's way (`torch.func`, one batched forward and backward): what
  the other sides, run in one process a core, have to beat. Its figure is a step of one network.
- compiled: the eager side by `torch.compile`, network and Adam, with static shapes. It needs a C++
  compiler, and half a minute before the first step.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.experiments.executors.base import keep_memory
from dfal.nn import training, training_steps
from dfal.pool import LabelledData
from measure import taken_on, write

STACK, ROUNDS = 10, 15
STEPS = 20
"""In a round, of 32 images; fewer of larger mini-batches."""


def eager(model: nn.Module, images: Tensor, labels: Tensor) -> Any:
    optimiser = torch.optim.Adam(model.parameters())
    return _steps(model, optimiser, optimiser.step, images, labels)


def compiled(model: nn.Module, images: Tensor, labels: Tensor) -> Any:
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    return _steps(
        torch.compile(model, dynamic=False),
        optimiser,
        torch.compile(optimiser.step),
        images,
        labels,
    )


def _steps(model: Any, optimiser: Any, update: Any, images: Tensor, labels: Tensor) -> Any:
    def step() -> None:
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        update()

    return step


def ours(model: nn.Module, images: Tensor, labels: Tensor) -> Any:
    optimiser = torch.optim.Adam(training._flatten_parameters(model), fused=True)
    data = LabelledData(images, labels, torch.arange(len(labels)))
    gradient = training_steps.labelled_step(model, training_steps.LabelCheck(data, data))

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        gradient(images, labels)
        optimiser.step()

    return step


def stacked(images: Tensor, labels: Tensor, count: int = STACK) -> Any:
    models = [dfal.lenet5().to(images.device).train() for _ in range(count)]
    parameters, buffers = torch.func.stack_module_state(models)
    optimiser = torch.optim.Adam(parameters.values(), fused=True)
    shared = models[0].to("meta")

    def loss(weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(shared, (weights, state), (x,)), y)

    gradients = torch.func.vmap(torch.func.grad(loss), randomness="different")
    x, y = images.expand(count, *images.shape), labels.expand(count, *labels.shape)

    def step() -> None:
        for name, gradient in gradients(parameters, buffers, x, y).items():
            parameters[name].grad = gradient
        optimiser.step()

    return step


SIDES = {
    "eager": lambda *batch: eager(dfal.lenet5().train(), *batch),
    "dfal": lambda *batch: ours(dfal.lenet5().train(), *batch),
    "vmap": stacked,
    "compiled": lambda *batch: compiled(dfal.lenet5().train(), *batch),
}


def alone(sides: list[str], batch: int) -> dict[str, float]:
    """Milliseconds of a step of each side, the median of all but the first round."""
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    images, labels = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
    steps = {side: SIDES[side](images, labels) for side in sides}
    of_a_round = max(1, STEPS * 32 // batch)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(ROUNDS + 1):
        for side, step in steps.items():
            for _ in range(-(-of_a_round // STACK) if side == "vmap" else of_a_round):
                start = perf_counter()
                step()
                if turn:
                    seconds[side].append(perf_counter() - start)
    return {
        side: 1000 * median(times) / (STACK if side == "vmap" else 1)
        for side, times in seconds.items()
    }


def measured(together: int, options: list[str]) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--alone", *options]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(together)
    ]
    return [json.loads(one.communicate()[0]) for one in running]


def main() -> int:
    parser = argparse.ArgumentParser(description="Time a training step.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32, help="images in a mini-batch")
    parser.add_argument("--sides", default="eager,dfal,vmap", help=f"of {', '.join(SIDES)}")
    parser.add_argument("--out", type=Path, help="JSON file  [default: results/training….json]")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sides = asked.sides.split(",")
    if asked.alone:
        print(json.dumps(alone(sides, asked.batch)))
        return 0
    options = ["--batch", str(asked.batch), "--sides", asked.sides]
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(asked.repeats):
        for together in runs:
            runs[together] += measured(together, options)
    rows = {
        side: {
            f"{together} at once": {
                "median_ms": round(median(one[side] for one in each), 2),
                "min_ms": round(min(one[side] for one in each), 2),
                "max_ms": round(max(one[side] for one in each), 2),
                "times_faster": round(median(one["eager"] / one[side] for one in each), 2),
            }
            for together, each in runs.items()
        }
        for side in sides
    }
    suffix = "" if asked.batch == 32 else f"-{asked.batch}"
    out = asked.out or Path(__file__).parent / "results" / f"training{suffix}.json"
    write(
        out,
        taken_on(("dfal", "torch"))
        | {"repeats": asked.repeats, "batch": asked.batch, "sides": rows},
    )
    table = Table(
        title=(
            f"Milliseconds a step of LeNet5, batches of {asked.batch}, one thread a process"
            " (smallest to largest)"
        )
    )
    for heading in ("", "alone", "times eager's speed", "two at once", "times eager's speed"):
        table.add_column(heading, justify="right" if heading else "left")
    for side, each in rows.items():
        cells = []
        for row in each.values():
            cells += [
                f"{row['median_ms']} ({row['min_ms']} to {row['max_ms']})",
                f"{row['times_faster']}",
            ]
        table.add_row(side, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
