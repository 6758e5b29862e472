"""What are a few labels worth on features of photographs, chosen or sampled at random?

    DFAL_DATA=… python benchmarks/few_labels.py --data cat-dog --backbone lite2 --size 260

Features are computed once into --features. Each seed draws pool and test images; labels come in
batches of at most 10, and `FewLabelLearner` learns after each batch. Test images are in no graph.
Writes benchmarks/results/few_labels-DATA-BACKBONE-SIZE.json.
"""

import argparse
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dfal import backbones
from dfal.data.image_files import fitted
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.seeding import generator
from dfal.semisupervised import FewLabelLearner, Neighbourhood
from dfal.strategies import FewLabels, Random

BUDGETS = (2, 4, 10, 20, 40, 50, 80, 100, 160, 200, 300, 600)
BATCH = 10
CHUNK = 32
STRATEGIES: dict[str, Strategy] = {"few-labels": FewLabels(), "random": Random()}


def image_files(name: str, part: str, work: Path) -> tuple[list[Path], np.ndarray]:
    """Return the unpacked files of a data set, by class and name, and the class of each."""
    with tarfile.open(Path(os.environ["DFAL_DATA"]) / f"{name}.tar.gz") as archive:
        archive.extractall(work, filter="data")
    root = work / name / part
    classes = sorted(folder.name for folder in root.iterdir())
    files = [file for name in classes for file in sorted((root / name).iterdir())]
    return files, np.array([classes.index(file.parent.name) for file in files])


@torch.inference_mode()
def load(
    data: str, part: str, backbone: str, size: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of a data set's images, and their classes; compute what is missing."""
    tag = f"{data}-{part}" if part else data
    rows, labels = folder / f"{tag}.{backbone}.{size}.npy", folder / f"{tag}.labels.npy"
    if not rows.exists() or not labels.exists():
        with tempfile.TemporaryDirectory() as work:
            files, truth = image_files(data, part, Path(work))
            network = backbones.load(backbone, (3, size, size)).network
            chunks = []
            for start in range(0, len(files), CHUNK):
                images = np.stack(
                    [fitted(f, (size, size), 3) for f in files[start : start + CHUNK]]
                )
                pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
                chunks.append(network(pixels).half().numpy())
        np.save(rows, np.concatenate(chunks))
        np.save(labels, truth)
    return np.load(rows), np.load(labels)


def splits(
    arguments: argparse.Namespace,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each seed: seed, features and classes of the pool, and of the test images."""
    read = (arguments.backbone, arguments.size, arguments.features)
    parted = arguments.data == "cifar-10-sample"
    features, truth = load(arguments.data, "train" if parted else "", *read)
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(len(truth))
        pool, rest = order[: arguments.pool], order[arguments.pool :]
        tested = load(arguments.data, "test", *read) if parted else (features[rest], truth[rest])
        yield seed, features[pool], truth[pool], *tested


def learn(
    neighbourhood: Neighbourhood,
    strategy: Strategy,
    seed: int,
    truth: np.ndarray,
    test: np.ndarray,
    test_truth: np.ndarray,
) -> list[float]:
    """Return the accuracy on test images, in %, at each of `BUDGETS`."""
    classes = int(truth.max()) + 1
    learner = FewLabelLearner(neighbourhood, classes)
    pool = Pool.new(neighbourhood.rows, {})
    model = nn.Linear(neighbourhood.rows.shape[1], classes).requires_grad_(False)
    model.weight.zero_()
    model.bias.zero_()
    rows, accuracies = neighbourhood.space(test), []
    for budget in BUDGETS:
        while pool.annotations < budget:
            k = min(budget - pool.annotations, BATCH)
            query = strategy(model, pool, k, generator(seed, pool.round, "select"))
            pool = pool.learn(query, truth[query.indices.numpy()])
            head = learner.update(pool.labels.numpy()).head
            model.weight.copy_(torch.from_numpy(head.weight))
            model.bias.copy_(torch.from_numpy(head.bias))
        accuracies.append(round(100 * float((head(rows).argmax(1) == test_truth).mean()), 2))
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["cat-dog", "cifar-10-sample"], default="cat-dog")
    parser.add_argument("--backbone", default="lite2")
    parser.add_argument("--size", type=int, default=260, help="pixels a side")
    parser.add_argument("--pool", type=int, default=1000, help="images that may be labelled")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=[*STRATEGIES])
    parser.add_argument("--features", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = f"few_labels-{arguments.data}-{arguments.backbone}-{arguments.size}.json"
    out = Path(__file__).parent / "results" / name
    result: dict[str, Any] = {"labels": BUDGETS, "pool": arguments.pool, "accuracy": {}}
    backbone = backbones.load(arguments.backbone, (3, arguments.size, arguments.size))
    for seed, features, truth, test, test_truth in splits(arguments):
        neighbourhood = backbone.neighbourhood(features)
        for label in arguments.strategies:
            found = learn(neighbourhood, STRATEGIES[label], seed, truth, test, test_truth)
            result["accuracy"].setdefault(label, {})[seed] = found
            print(seed, label, *found, flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
