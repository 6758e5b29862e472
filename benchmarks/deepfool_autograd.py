"""DeepFool beside Foolbox and ART on networks that are no chain of known layers, by autograd:

    python benchmarks/deepfool_autograd.py --networks residual,vit,resnet18 --art 16
    python benchmarks/deepfool_autograd.py --networks residual --candidates 300,3000

The second form times DFAL's query of ten images out of so many in place of DeepFool, without
the others. ART, which is the slowest, attacks the first images only, once, as many as `--art` says.

It needs `pip install --group peers` and one thread. Both sides attack the same trained
network in turns with L2, 50 steps, η = 0.02, the ten likeliest classes, and batches of 128. Times
are CPU times of the process, since other work may run beside: compare the ratios. "plain" is dfal
as it would be with the gradients of all classes in each step and batch norm as it is.

Distances are compared as in `deepfool.py`: like for like in float64 with pixels from 0 to 4096,
where the constant that Foolbox adds to each step is negligible. The exit status is 1 unless 99 % of
the distances agree within 1e-3.
"""

import argparse
import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from deepfool import OVERSHOOT, with_art, with_foolbox
from dfal.attacks import deepfool_state, gradients
from dfal.data.datasets import load
from dfal.experiments.executors.base import keep_memory
from measure import taken_on, write
from networks import AUTOGRAD_NETWORKS, SCALE, Scaled

STEPS, CLASSES, BATCH = 50, 10, 128
EPOCHS = {"residual": 10, "resnet18": 2, "vit": 25}
NEEDED, TOLERANCE = 0.99, 1e-3


def ours(model: nn.Module, images: Tensor, own: Tensor) -> Tensor:
    return dfal.DeepFool(max_steps=STEPS, classes=CLASSES)(model, images).images


@contextlib.contextmanager
def without_shortcuts() -> Iterator[None]:
    with (
        patch.object(deepfool_state, "MIN_SINGLE_CLASS", CLASSES),
        patch.object(gradients, "fast_eval", lambda *_: contextlib.nullcontext()),
        patch.object(dfal.DeepFool, "_may_be_within", lambda *given: torch.ones_like(given[3]) > 0),
    ):
        yield


def plain(model: nn.Module, images: Tensor, own: Tensor) -> Tensor:
    with without_shortcuts():
        return ours(model, images, own)


SIDES: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "dfal": ours,
    "plain": plain,
    "Foolbox": partial(with_foolbox, overshoot=OVERSHOOT, clip=None),
}


def distances(moved: Tensor, images: Tensor) -> Tensor:
    lengths: Tensor = (moved - images).flatten(1).double().norm(dim=1)
    return lengths


def agreement(us: Tensor, them: Tensor) -> dict[str, float]:
    difference = ((us - them).abs() / us).where(us != them, 0)
    return {
        "within_0.001": float((difference < TOLERANCE).double().mean()),
        "largest": float(f"{float(difference.max()):.2e}"),
    }


def measured(
    name: str, classes: int, images: Tensor, model: nn.Module, repeats: int, art: int
) -> dict[str, Any]:
    own = dfal.predict(model, images).argmax(1)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    moved = {}
    for turn in range(repeats):
        sides = list(SIDES)
        for side in sides[turn % 3 :] + sides[: turn % 3]:
            start = process_time()
            moved[side] = SIDES[side](model, images, own)
            seconds[side].append(process_time() - start)
    ratios = {
        side: median(a / b for a, b in zip(each, seconds["dfal"], strict=True))
        for side, each in seconds.items()
    }
    few = images[:BATCH].double() * SCALE
    scaled = Scaled(copy.deepcopy(model).double()).eval()
    exact = [distances(side(scaled, few, own[:BATCH]), few) for side in SIDES.values()]
    row = {
        "images": len(images),
        "classes": classes,
        "cpu_seconds": {side: [round(s, 3) for s in each] for side, each in seconds.items()},
        "images_a_cpu_second": {
            side: round(len(images) / median(each), 1) for side, each in seconds.items()
        },
        "times_as_long_as_dfal": {side: round(each, 2) for side, each in ratios.items()},
        "not_flipped": {
            side: int((dfal.predict(model, each).argmax(1) == own).sum())
            for side, each in moved.items()
        },
        "distances, float32, beside plain": agreement(
            distances(moved["plain"], images), distances(moved["dfal"], images)
        ),
        "distances, float64, beside plain": agreement(exact[1], exact[0]),
        "distances, float64, beside Foolbox": agreement(exact[2], exact[0]),
    }
    if art:
        row["ART"] = beside_art(images[:art], model, own[:art])
    print(name, classes, row, flush=True)
    return row


def beside_art(images: Tensor, model: nn.Module, own: Tensor) -> dict[str, Any]:
    """How long ART takes for some images, and dfal for the same."""
    seconds = {}
    for side, attack in (
        ("dfal", ours),
        ("ART", partial(with_art, overshoot=OVERSHOOT, clip=None)),
    ):
        start = process_time()
        attack(model, images, own)
        seconds[side] = round(process_time() - start, 3)
    return {
        "images": len(images),
        "cpu_seconds": seconds,
        "times_as_long_as_dfal": round(seconds["ART"] / seconds["dfal"], 2),
    }


def queries(name: str, candidates: int, images: Tensor, model: nn.Module) -> dict[str, Any]:
    """CPU seconds of DFAL's query with and without what is left out, and whether it is the same."""
    strategy = dfal.DFAL(candidates=candidates)
    pool = dfal.Pool.new(images[: candidates + 1], {candidates: 0})
    seconds, queried = {}, {}
    for side, context in (("dfal", contextlib.nullcontext()), ("plain", without_shortcuts())):
        start = process_time()
        with context:
            query = strategy(model, pool, 10, dfal.generator(0, 0, "select"))
        seconds[side] = round(process_time() - start, 3)
        queried[side] = sorted(query.indices.tolist())
    row = {
        "candidates": candidates,
        "cpu_seconds": seconds,
        "plain_as_long_as_dfal": round(seconds["plain"] / seconds["dfal"], 2),
        "same_images": queried["dfal"] == queried["plain"],
    }
    print(name, row, flush=True)
    return row


def trained(name: str, classes: int, labels: int, most: int) -> tuple[nn.Module, Tensor]:
    """A network trained on digits, and digits that it has not seen.

    ResNet-18 has them in three channels and with a border, 32 × 32 pixels.
    """
    make, data = AUTOGRAD_NETWORKS[name], load("mnist")
    order = torch.randperm(len(data.images), generator=dfal.generator(0, 0, "benchmark"))
    images = data.images.take(order[: labels + most])
    if name == "resnet18":
        images = F.pad(images, (2, 2, 2, 2)).repeat(1, 3, 1, 1)
    labelled = dfal.LabelledData(images[:labels], data.labels[order[:labels]], torch.arange(labels))
    settings = dfal.Training(epochs=EPOCHS[name])
    model = dfal.fit(partial(make, classes=classes), labelled, settings, seed=0)
    return model.eval(), images[labels:]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time DeepFool by autograd beside Foolbox and ART."
    )
    parser.add_argument("--networks", default="residual,vit,resnet18")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--labels", type=int, default=500, help="images trained on")
    parser.add_argument("--classes", type=int, default=10, help="logits; more than 10 stay unused")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--candidates", default="", help="DFAL's, with commas")
    parser.add_argument("--art", type=int, default=0, help="images that ART attacks")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    candidates = [int(count) for count in asked.candidates.split(",") if count]
    default = f"deepfool-autograd{'-queries' if candidates else ''}.json"
    out = asked.out or Path(__file__).parent / "results" / default
    rows: dict[str, Any] = {}
    facts = taken_on(("dfal", "torch", "foolbox")) | {
        "note": "CPU time of one thread; other work was running beside",
    }
    for name in asked.networks.split(","):
        count = asked.images if name != "resnet18" else asked.images // 8
        most = max([count, *(each + 1 for each in candidates)])
        model, images = trained(name, asked.classes, asked.labels, most)
        if candidates:
            rows[name] = [queries(name, each, images, model) for each in candidates]
        else:
            rows[name] = measured(name, asked.classes, images, model, asked.repeats, asked.art)
        write(out, facts | {"networks": rows})
    if candidates:
        return 0 if all(row["same_images"] for each in rows.values() for row in each) else 1
    like = ("distances, float64, beside plain", "distances, float64, beside Foolbox")
    agree = all(row[name]["within_0.001"] >= NEEDED for row in rows.values() for name in like)
    print("The distances agree." if agree else "FAILED: see the distances.")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
