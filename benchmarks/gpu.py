"""All that is to be measured on a GPU, in one command of ten minutes:

    python benchmarks/gpu.py [--parts correctness,deepfool] [--dry-run]

It needs the repository with what dfal requires, and the data: MNIST where it lies in the folder
that DFAL_DATA names, else the digits that come with dfal. Foolbox, pytest and the weights of
`dfal[photos]` are used where they are installed. The JSON file is written after each figure, and a
part that it has as finished is not run again, so that a stop loses nothing: the same command
resumes.

- correctness: the tests marked gpu, and the GPU beside the CPU, with and without TF32.
- deepfool: LeNet5, VGG8, two residual networks and a vision transformer, beside Foolbox, in turns.
- many classes: EfficientNet-Lite0 with the 1,000 classes of ImageNet, beside Foolbox.
- training: a step of LeNet5: eager, by dfal, and networks in step by stacked parameters; `fit` of
  networks one by one, each as a CUDA graph, and in step, by the recipe best too.
- study: seven strategies × five seeds × 100 rounds on MNIST with LeNet5, as far as the time goes,
  and how long all of it would take.
- study_in_step: the same by `--executor together`.
- vgg8: DFAL with VGG8: training and selection with few labels and with many, and how long a trial
  to 1,000 labels would take.

--dry-run takes tiny sizes and the CPU, to test the command itself: its figures mean nothing.
"""

import argparse
import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import dfal
import training
from dfal.atomic import atomic_write
from dfal.data.datasets import Dataset, load
from dfal.nn import NETWORKS
from dfal.nn.training import fit
from dfal.seeding import generator
from gpu_attacks import attacked, deepfool, fitted, many_classes
from gpu_trials import (
    DRY,
    Figures,
    Part,
    Sizes,
    best_in_step,
    networks_in_step,
    some_pool,
    study,
    study_in_step,
    synchronised,
    timed,
    vgg8,
)
from measure import taken_on
from networks import residual

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-3


def correctness(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    figures["tests"] = marked_tests(sizes)
    yield
    images = attacked(data, sizes)
    for name in ("lenet5", "residual"):
        model = fitted(NETWORKS.get(name, residual), data, sizes, 20)
        plain = copy.deepcopy(model).cpu().double()
        want = dfal.DeepFool(max_steps=sizes.steps)(plain, images.cpu().double())
        logits = dfal.predict(plain, images.cpu().double())
        rows = figures[name] = {}
        for form, dtype, tf32 in (
            ("float64", torch.float64, False),
            ("float32", torch.float32, False),
            ("float32 with TF32", torch.float32, True),
        ):
            with tf32_allowed(tf32):
                network = copy.deepcopy(model).to(dtype)
                found = dfal.DeepFool(max_steps=sizes.steps)(network, images.to(dtype))
                f = dfal.predict(network, images.to(dtype)).cpu().double()
                still = dfal.predict(network, found.images).argmax(1).cpu()
                # Another size of the batch may round otherwise.
                alone = [dfal.predict(network, image[None]) for image in found.images[:64]]
            distance = found.distance.cpu().double()
            difference = (distance - want.distance).abs() / want.distance
            difference[distance == want.distance] = 0  # also where both are infinite
            own = f.argmax(1)
            still_alone = torch.cat(alone).argmax(1).cpu() == own[:64]
            rows[form] = {
                "largest_difference_of_logits": float((f - logits).abs().max()),
                "distances_within_0.001": float((difference < TOLERANCE).double().mean()),
                "largest_relative_difference": float(difference.max()),
                "not_flipped": int((still == own).sum()),
                "not_flipped_alone": int(still_alone.sum()),
            }
            yield
    some = min(10, sizes.candidates[0])
    there, here = (
        dfal.DFAL(candidates=sizes.candidates[0])(
            network, some_pool(data, sizes.labels[0]), some, generator(0, 1, "select")
        )
        for network in (model, copy.deepcopy(model).cpu())
    )
    same = set(there.indices.tolist()) & set(here.indices.tolist())
    figures["images_that_dfal_selects_on_both"] = f"{len(same)} of {some}"
    yield


@contextlib.contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def marked_tests(sizes: Sizes) -> Figures:
    """Run the tests marked gpu; in a dry run those of one file are only collected."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in paths if "mark.gpu" in path.read_text(encoding="utf-8")]
    options = []
    if sizes.device == "cpu":
        options, files = ["--collect-only"], files[:1]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    try:
        ran = subprocess.run(
            [*command, *options, *files],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=sizes.test_seconds,
        )
    except subprocess.TimeoutExpired:
        return {"passed": False, "output": f"not done after {sizes.test_seconds} s"}
    if "No module named" in ran.stderr:
        return {"passed": None, "output": "not run: pip install --group test"}
    return {"passed": not ran.returncode, "output": (ran.stdout + ran.stderr)[-4000:]}


def training_steps(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    for batch in (32, 512) if sizes.device != "cpu" else (4,):
        images = torch.rand(batch, *data.images.shape, device=sizes.device)
        labels = torch.randint(len(data.classes), (batch,), device=sizes.device)
        steps: dict[str, Callable[[], Any]] = {}
        for side, make in (("eager", training.eager), ("dfal", training.ours)):
            steps[side] = make(dfal.lenet5().to(sizes.device).train(), images, labels)
        steps["stacked"] = training.stacked(images, labels, sizes.stack)
        count = 50 if sizes.device != "cpu" else 1

        def repeated(step: Callable[[], Any], count: int = count) -> None:
            for _ in range(count):
                step()

        measured = timed({side: partial(repeated, step) for side, step in steps.items()}, sizes)
        figures[f"steps a second, batch {batch}"] = {
            side: each.figures(count * (sizes.stack if side == "stacked" else 1))
            for side, each in measured.items()
        }
        yield
    for labels_count in sizes.labels:
        labelled = some_pool(data, labels_count).labelled_data(sizes.device)
        settings = dfal.Training(epochs=sizes.epochs)
        start = perf_counter()
        synchronised(partial(fit, dfal.lenet5, labelled, settings, 0), sizes.device)
        figures[f"seconds of fit, {labels_count} labels"] = round(perf_counter() - start, 3)
        yield
        figures[f"networks in step, {labels_count} labels"] = networks_in_step(
            sizes, data, labels_count
        )
        yield
    name = f"networks in step by the recipe best, {sizes.labels[0]} labels"
    figures[f"{name}, {sizes.best_steps} steps"] = best_in_step(sizes, data)
    yield


PARTS: dict[str, Part] = {
    "correctness": correctness,
    "deepfool": deepfool,
    "many classes": many_classes,
    "training": training_steps,
    "vgg8": vgg8,
    "study": study,
    "study_in_step": study_in_step,
}


class Report:
    """The JSON file, which is written after each figure.

    Args:
        path: of the file, which may be there from a run that was stopped.
        facts: what the figures were taken on. Parts taken on something else are dropped.
    """

    def __init__(self, path: Path, facts: Figures):
        self.path, self.contents = path, facts | {"parts": {}}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if all(earlier.get(name) == value for name, value in facts.items()):
                self.contents = earlier

    def is_finished(self, part: str) -> bool:
        return bool(self.contents["parts"].get(part, {}).get("finished"))

    def add(self, part: str, figures: Figures, **state: Any) -> None:
        self.contents["parts"][part] = state | figures
        with atomic_write(self.path) as new:
            new.write_text(json.dumps(self.contents, indent=2, ensure_ascii=False) + "\n")


def measure(report: Report, name: str, sizes: Sizes, data: Dataset) -> None:
    """Run a part; what it had before it failed is kept beside the error."""
    figures: Figures = {}
    start = perf_counter()

    def state(**more: Any) -> Figures:
        return {"seconds_in_all": round(perf_counter() - start, 1)} | more

    try:
        for _ in PARTS[name](sizes, data, figures):
            report.add(name, figures, **state(finished=False))
    except Exception as error:  # the other parts are to be measured all the same
        report.add(name, figures, **state(finished=False, error=f"{type(error).__name__}: {error}"))
        print(f"{name} FAILED: {error}", flush=True)
    else:
        report.add(name, figures, **state(finished=True))
        print(f"{name}: done in {perf_counter() - start:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure on a GPU what dfal does there.")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas; default: all")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--study-seconds", type=float, help="for each of the two studies")
    parser.add_argument("--out", type=Path, help="JSON file  [default: results/gpu.json]")
    asked = parser.parse_args()
    if not asked.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that PyTorch can use: --dry-run tests the command")
    if asked.dry_run:
        torch.set_num_threads(1)
    sizes, data = sizes_and_digits(asked.dry_run)
    if asked.study_seconds:
        sizes = replace(sizes, study_seconds=asked.study_seconds)
    out = asked.out or Path(__file__).parent / "results" / f"gpu{'-dry' * asked.dry_run}.json"
    facts = taken_on(("dfal", "torch", "foolbox"))
    del facts["command"]
    device = "none" if asked.dry_run else torch.cuda.get_device_name()
    report = Report(out, facts | {"gpu": device, "data": sizes.dataset, "dry_run": asked.dry_run})
    for name in asked.parts.split(","):
        if not report.is_finished(name):
            measure(report, name, sizes, data)
    failed = [name for name in asked.parts.split(",") if not report.is_finished(name)]
    print(f"{out}: {'not done: ' + ', '.join(failed) if failed else 'all parts are there'}")
    return 1 if failed else 0


def sizes_and_digits(dry: bool) -> tuple[Sizes, Dataset]:
    """MNIST where it lies beside the repository, else the digits that come with dfal."""
    if dry:
        return DRY, load(DRY.dataset)
    with contextlib.suppress(dfal.DfalError, OSError):
        return Sizes("mnist"), load("mnist")
    return Sizes("mnist-5k"), load("mnist-5k")


if __name__ == "__main__":
    sys.exit(main())
