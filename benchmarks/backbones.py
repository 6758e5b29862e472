"""Speed and accuracy of the pretrained backbones, by input size:

    python benchmarks/backbones.py speed
    python benchmarks/backbones.py accuracy FOLDER

`speed` prints CPU ms an image on one thread: of the network as it was trained (batch norm is not
folded), of the form that `dfal.backbones.load` returns, and of that form with bfloat16 autocast, in
turns.

`accuracy` prints, for the images of a folder with a subfolder for each class, the accuracy of a
logistic regression on the features (standardised, C = 0.01) with random labels: mean and standard
deviation over seeds. Half of the images are for testing, the labels come from the other half.
Features are kept under `--cache`, so that a run that was stopped resumes.
"""

import argparse
import itertools
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from dfal import backbones
from dfal.data.image_files import fitted
from measure import taken_on, write

SIZES = (160, 192, 224, 260)
NAMES = ("lite0", "lite2")
BATCH = 16


def cpu_ms(network: nn.Module, images: torch.Tensor, *, bf16: bool = False) -> float:
    start = time.process_time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        network(images)
    return (time.process_time() - start) / len(images) * 1000


def speed(names: list[str], sizes: list[int], repeats: int) -> dict[str, Any]:
    rows = {}
    for name, size in itertools.product(names, sizes):
        backbone = backbones.load(name, (3, size, size))
        unfolded = backbone.trainable().eval()
        images = torch.rand(BATCH, *backbone.image)
        times: dict[str, list[float]] = {"unfolded": [], "dfal": [], "bfloat16": []}
        for turn in range(repeats + 1):
            row = {
                "unfolded": cpu_ms(unfolded, images),
                "dfal": cpu_ms(backbone.network, images),
                "bfloat16": cpu_ms(backbone.network, images, bf16=True),
            }
            if turn:
                for side, value in row.items():
                    times[side].append(value)
        row = {side: round(min(values), 1) for side, values in times.items()}
        ratios = [a / b for a, b in zip(times["unfolded"], times["dfal"], strict=True)]
        rows[f"{name} {size}"] = row | {"ratio": round(median(ratios), 2)}
        print(f"{name} {size}: {rows[f'{name} {size}']}", flush=True)
    return rows


def features(
    folder: Path, count: int, name: str, size: int, cache: Path, *, bf16: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features and classes of `count` images, spread over the folder."""
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    paths = [paths[k] for k in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    classes = sorted({path.parent.name for path in paths})
    y = np.array([classes.index(path.parent.name) for path in paths])
    file = cache / f"{folder.name}-{name}-{size}-{len(paths)}{'-bf16' if bf16 else ''}.npy"
    if not file.exists():
        network, rows = backbones.load(name, (3, size, size)).network, []
        for start in range(0, len(paths), BATCH):
            raw = np.stack([fitted(p, (size, size), 3) for p in paths[start : start + BATCH]])
            images = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                rows.append(network(images).float().numpy())
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, np.concatenate(rows))
    return np.load(file), y


def accuracies(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], labels: int, seeds: list[int]
) -> list[float]:
    found = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        test, pool = order[: len(y) // 2], order[len(y) // 2 :]
        z = (x - x[pool].mean(0)) / (x[pool].std(0) + 1e-6)
        some = pool[:labels]
        if len(set(y[some])) > 1:
            model = LogisticRegression(C=0.01, max_iter=500).fit(z[some], y[some])
            found.append(float(model.score(z[test], y[test])))
    return found


def accuracy(arguments: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for precision, name, size in itertools.product(
        arguments.precision, arguments.names, arguments.sizes
    ):
        x, y = features(
            arguments.folder,
            arguments.images,
            name,
            size,
            arguments.cache,
            bf16=precision == "bfloat16",
        )
        row = {}
        for labels in arguments.labels:
            scores = np.array(accuracies(x, y, labels, arguments.seeds)) * 100
            row[str(labels)] = [round(float(scores.mean()), 1), round(float(scores.std(ddof=1)), 1)]
        key = f"{name} {size} {precision}"
        rows[key] = row
        cells = "  ".join(f"{labels}: {m:.1f} ± {s:.1f}" for labels, (m, s) in row.items())
        print(f"{key:24} {cells}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "accuracy"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--images", type=int, default=1400, help="of the folder, at most")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 105)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/dfal-backbones"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "speed":
        rows = speed(arguments.names, arguments.sizes, arguments.repeats)
    else:
        if arguments.folder is None:
            parser.error("accuracy needs a folder")
        rows = accuracy(arguments)
    place = "speed" if arguments.folder is None else arguments.folder.resolve().name
    write(
        Path(__file__).with_name("results") / f"backbones-{place}.json",
        {**taken_on(["dfal", "torch", "numpy", "scikit-learn"]), "rows": rows}
        | {"system": platform.system()},
    )


if __name__ == "__main__":
    main()
