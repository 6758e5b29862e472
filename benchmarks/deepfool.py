"""DeepFool beside Foolbox, ART and torchattacks: how much faster, and are the distances the same?
One command, one run:

    python benchmarks/deepfool.py --images 800 --repeats 3 --threads 2 --data mnist [--clip]
    [--network vgg8]

It needs the dependency group `peers`. All sides attack the same trained network with L2, 50 steps,
ten classes and batches of 128, and leave the network's own class. Each gets the network as it comes
from training, as a user would give it: we freeze its weights while we attack, a peer may compute
gradients for them that nobody needs.

Speed is compared at η = 0.02. Distances cannot all be compared there, because the peers compute
something else:

- Foolbox adds 1e-4 to the length of every step, whatever the unit of the pixels. An image that lies
  0.05 from the boundary therefore comes out 0.2 % or more further. With pixels from 0 to 4096 the
  same constant is negligible: there Foolbox and we compute the same, and there we are compared.
- ART steps without overshoot and scales by 1 + η once, at the end. The paper's authors' code,
  Foolbox and we linearise at x + (1 + η) r̂, so that the boundary is overstepped by the last step's
  η only, and a step may see another linear region. The algorithms meet as η → 0: they are compared
  at η = 1e-5. Images then lie on the boundary itself and float rounding decides about their class,
  so that flips count at η = 0.02 only.
- torchattacks always clips, and steps anew from each clipped image by (1 + η) r_i: it is timed
  only.

Distances are ‖x_adv − x‖₂ on all sides. Where an image meets a kink of the network, or lies on the
boundary but for rounding, float32 decides how far it goes, and another batch size alone changes one
in some thousand. So the algorithms are compared in float64 (ART knows float32 only), and our
float32 with our float64. Faster and different is a failure: the exit status is 1 unless, like for
like, 99.9 % of the distances agree within 1e-3 (all but one of fewer than 1,000), ours among
themselves too, and we flip every image (with clipping, all but as many). With clipping the
distances of ART are not judged: it clips its own way.

The floor is what dense arithmetic needs: (forward + classes × backward) × steps in floating-point
operations over the rate of a large matrix product on the same threads.
"""

import argparse
import copy
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import torch
import torchattacks
from art.attacks.evasion import DeepFool as ArtDeepFool
from art.estimators.classification import PyTorchClassifier
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import dfal
from dfal.data.datasets import load
from dfal.nn import NETWORKS
from measure import interleaved, product_rate, ratio, reset_peak, resident, taken_on, write
from networks import SCALE, Scaled

LABELLED, STEPS, CLASSES, BATCH = 1000, 50, 10, 128
OVERSHOOT, TINY_OVERSHOOT = 0.02, 1e-5
TOLERANCE, SHARE = 1e-3, 0.999

Clip = tuple[float, float] | None
Attack = Callable[[nn.Module, Tensor, Tensor, float, Clip], Tensor]
"""Network, images, the network's own classes, η, bounds of the pixels → moved images."""


def ours(model: nn.Module, images: Tensor, own: Tensor, overshoot: float, clip: Clip) -> Tensor:
    return dfal.DeepFool(p=2, overshoot=overshoot, max_steps=STEPS, clip=clip)(model, images).images


def with_foolbox(
    model: nn.Module, images: Tensor, own: Tensor, overshoot: float, clip: Clip
) -> Tensor:
    attack = foolbox.attacks.L2DeepFoolAttack(steps=STEPS, candidates=CLASSES, overshoot=overshoot)
    # DeepFool uses the bounds for clipping alone: so wide, they change nothing.
    bounded = foolbox.PyTorchModel(model, bounds=clip or (-1e6, 1e6), device=images.device)
    moved = []
    for x, k in zip(images.split(BATCH), own.split(BATCH), strict=True):
        moved.append(attack(bounded, x, foolbox.criteria.Misclassification(k), epsilons=None)[1])
    return torch.cat(moved)


def with_art(
    model: nn.Module,
    images: Tensor,
    own: Tensor,
    overshoot: float,
    clip: Clip,
    logits: int = CLASSES,
) -> Tensor:
    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=logits,
        device_type="cpu",
        clip_values=clip,
    )
    # It takes no labels: it leaves the network's own class.
    attack = ArtDeepFool(
        classifier, STEPS, epsilon=overshoot, nb_grads=CLASSES, batch_size=BATCH, verbose=False
    )
    return torch.from_numpy(attack.generate(images.numpy()))


def with_torchattacks(
    model: nn.Module, images: Tensor, own: Tensor, overshoot: float, clip: Clip
) -> Tensor:
    moved: Tensor = torchattacks.DeepFool(model, steps=STEPS, overshoot=overshoot)(images, own)
    return moved


SIDES: dict[str, Attack] = {
    "dfal": ours,
    "Foolbox": with_foolbox,
    "ART": with_art,
    "torchattacks": with_torchattacks,
}


class Counting(nn.Module):
    """A network that counts the images that pass through it without their gradients."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images) * (not torch.is_grad_enabled())
        logits: Tensor = self.model(images)
        return logits


def floor(model: nn.Module, images: Tensor, clip: Clip) -> dict[str, float]:
    """Steps an image, and images a second if all that happened were the floating-point operations
    of these steps."""
    counting = Counting(model)
    ours(counting, images[:BATCH], torch.empty(0), OVERSHOOT, clip)
    steps = counting.images / min(BATCH, len(images)) - 1  # a first look, and a check in each step
    x = images[:1].clone().requires_grad_()
    with FlopCounterMode(display=False) as forward:
        logits = model(x)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(logits[0, 0], x)
    operations = forward.get_total_flops() + CLASSES * backward.get_total_flops()
    rate = product_rate()
    return {
        "steps_an_image": round(steps, 3),
        "mflop_a_step": round(operations / 1e6, 2),
        "product_gflops": round(rate / 1e9, 1),
        "per_second": round(rate / (operations * steps), 1),
    }


def trained(network: str, data: str, images: int) -> tuple[nn.Module, Tensor]:
    """A network trained on 1,000 images of a data set, and other images of it."""
    dataset = load(data)
    order = torch.randperm(len(dataset.images), generator=dfal.generator(0, 0, "benchmark"))
    if len(order) < LABELLED + images:
        raise SystemExit(
            f"{data} has {len(order)} images, of which {LABELLED} train: --images must be less than"
            f" {images}"
        )
    known = {int(i): int(dataset.labels[i]) for i in order[:LABELLED]}
    pool = dfal.Pool.new(dataset.images, known)
    epochs = 30 if network == "lenet5" else 5
    model = dfal.fit(NETWORKS[network], pool.labelled_data(), dfal.Training(epochs=epochs), seed=0)
    return model.eval(), dataset.images.take(order[LABELLED : LABELLED + images])


def agreement(
    setting: str, model: nn.Module, images: Tensor, us: Tensor, peer: Tensor
) -> dict[str, Any]:
    """How well the distances agree, and how many moved images still have their class."""
    own = dfal.predict(model, images).argmax(1)
    us, peer = us.to(images.dtype), peer.to(images.dtype)
    mine, theirs = ((moved - images).flatten(1).double().norm(dim=1) for moved in (us, peer))
    difference = (theirs - mine).abs() / mine
    return {
        "setting": setting,
        "within_0.001": float((difference < TOLERANCE).double().mean()),
        "median": _rounded(difference.median()),
        "quantile_0.999": _rounded(difference.quantile(0.999)),
        "maximum": _rounded(difference.max()),
        "not_flipped": [
            int((dfal.predict(model, moved).argmax(1) == own).sum()) for moved in (us, peer)
        ],
    }


def _rounded(x: Tensor) -> float:
    return float(f"{float(x):.2e}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time DeepFool beside other libraries, and compare the distances."
    )
    parser.add_argument("--network", choices=NETWORKS, default="lenet5")
    parser.add_argument("--images", type=int, default=800, help="images to attack")
    parser.add_argument(
        "--clip", action="store_true", help="clip pixels to 0 … 1, as torchattacks always does"
    )
    parser.add_argument(
        "--without", default="", help="sides to leave out, with commas: ART, torchattacks"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds, in each of which every side is timed once"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="threads, the same for every side",
    )
    parser.add_argument(
        "--data", default="mnist-5k", help="data set of ten classes to train and attack on"
    )
    parser.add_argument(
        "--out", type=Path, help="JSON file  [default: results/deepfool-….json beside this file]"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    logging.getLogger("art").setLevel(
        logging.ERROR
    )  # it warns that nothing is clipped, which is what we want
    name = f"deepfool-{asked.network}-{asked.images}{'-clip' if asked.clip else ''}.json"
    out = asked.out or Path(__file__).parent / "results" / name
    clip: Clip = (0.0, 1.0) if asked.clip else None

    model, images = trained(asked.network, asked.data, asked.images)
    own = dfal.predict(model, images).argmax(1)
    attacks = {
        side: attack for side, attack in SIDES.items() if side not in asked.without.split(",")
    }
    memory = {}
    for side, attack in attacks.items():  # a first call is slow
        attack(model, images[:2], own[:2], OVERSHOOT, clip)
        before = resident()
        reset_peak()
        attack(model, images[:BATCH], own[:BATCH], OVERSHOOT, clip)
        memory[side] = round(resident(peak=True) - before, 1)
    sides = {
        side: partial(attack, model, images, own, OVERSHOOT, clip)
        for side, attack in attacks.items()
    }
    measured = interleaved(sides, asked.repeats)
    moved = {side: timed.result for side, timed in measured.items()}

    wide: Clip = (0.0, float(SCALE)) if clip else None
    rows = {
        peer: [
            agreement(
                f"η = {OVERSHOOT}, pixels 0 to 1: as timed",
                model,
                images,
                moved["dfal"],
                moved[peer],
            )
        ]
        for peer in attacks
        if peer != "dfal"
    }
    double, doubles = copy.deepcopy(model).double(), images.double()
    precise = ours(double, doubles, own, OVERSHOOT, clip)
    rows["dfal, float64"] = [
        agreement(f"η = {OVERSHOOT}, pixels 0 to 1", model, images, moved["dfal"], precise)
    ]
    scaled, pixels = Scaled(double).eval(), doubles * SCALE
    both = [attack(scaled, pixels, own, OVERSHOOT, wide) for attack in (ours, with_foolbox)]
    rows["Foolbox"].append(
        agreement(
            f"η = {OVERSHOOT}, pixels 0 to {SCALE}, float64: like for like", scaled, pixels, *both
        )
    )
    alike = [rows["dfal, float64"][0], rows["Foolbox"][1]]
    if "ART" in attacks and not clip:
        both = [
            ours(double, doubles, own, TINY_OVERSHOOT, clip),
            with_art(model, images, own, TINY_OVERSHOOT, clip),
        ]
        rows["ART"].append(
            agreement(
                f"η = {TINY_OVERSHOOT}, ours in float64: like for like", double, doubles, *both
            )
        )
        alike.append(rows["ART"][1])
    most = max(1, round((1 - SHARE) * asked.images))
    # Clipped, an image comes to the boundary so slowly that 50 steps may not be enough for one.
    flipped = not any(
        row["not_flipped"][0] > (most if clip else 0) for side in rows.values() for row in side
    )
    agree = all((1 - row["within_0.001"]) * asked.images <= most + 0.5 for row in alike)

    speed = {
        side: (
            timed.figures(asked.images)
            | {
                "times_as_long": round(ratio(timed, measured["dfal"]), 2),
                "memory_mb": memory[side],
            }
        )
        for side, timed in measured.items()
    }
    packages = (
        "dfal",
        "torch",
        "numpy",
        "foolbox",
        "adversarial-robustness-toolbox",
        "torchattacks",
    )
    facts = taken_on(packages) | {
        "network": asked.network,
        "clip": asked.clip,
        "data": asked.data,
        "images": asked.images,
        "repeats": asked.repeats,
    }
    dense = floor(model, images, clip)
    write(
        out,
        facts
        | {
            "speed": speed,
            "floor": dense,
            "distances": rows,
            "agree": agree,
            "all_flipped": flipped,
        },
    )
    show(facts, speed, dense, rows)
    print(
        "The distances agree and we flip the images."
        if agree and flipped
        else "FAILED: see the distances."
    )
    return 0 if agree and flipped else 1


def show(
    facts: dict[str, Any],
    speed: dict[str, dict[str, Any]],
    dense: dict[str, float],
    distances: dict[str, list[dict[str, Any]]],
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 128)
    clipped = "pixels clipped" if facts["clip"] else "no clipping"
    title = (
        f"DeepFool, L2, η = {OVERSHOOT}, {clipped}: {facts['images']} images of {facts['data']},"
        f" {facts['network']}"
    )
    table = Table(
        title=(
            f"{title}\n{facts['machine']}, {facts['threads']} threads, median of {facts['repeats']}"
            " rounds"
        )
    )
    for heading in (
        "",
        "seconds",
        "min to max",
        "images a second",
        "times as long as dfal",
        "memory, MB",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for name, row in speed.items():
        seconds, range_ = f"{row['median']:.3f}", f"{row['min']:.3f} to {row['max']:.3f}"
        table.add_row(
            name,
            seconds,
            range_,
            f"{row['per_second']:,.0f}",
            f"{row['times_as_long']:.1f}",
            f"{row['memory_mb']:.0f}",
        )
    console.print(table)
    share = speed["dfal"]["per_second"] / dense["per_second"]
    console.print(
        f"Floor: {dense['steps_an_image']:.2f} steps an image, {dense['mflop_a_step']:.1f} Mflop"
        f" each, at {dense['product_gflops']:.0f} Gflop/s are {dense['per_second']:,.0f} images a"
        f" second; dfal reaches {share:.0%} of it."
    )

    table = Table(title="Relative difference of ‖x_adv − x‖₂ from dfal's")
    for heading in (
        "",
        "setting",
        "within 1e-3",
        "median",
        "99.9 %",
        "maximum",
        "not flipped: dfal",
        "peer",
    ):
        table.add_column(heading, justify="left" if heading in ("", "setting") else "right")
    for name, rows in distances.items():
        for row in rows:
            figures = (f"{row[key]:.1e}" for key in ("median", "quantile_0.999", "maximum"))
            table.add_row(
                name,
                row["setting"],
                f"{row['within_0.001']:.2%}",
                *figures,
                *map(str, row["not_flipped"]),
            )
    console.print(table)
    console.print(
        "Foolbox adds 1e-4 to every step, which counts near the boundary and not with pixels from"
        f" 0 to {SCALE}.\nART overshoots once, at the end, not in each step as the paper's authors'"
        " code does: they meet as η → 0, where\nimages lie on the boundary itself and rounding"
        " decides about their class.",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
