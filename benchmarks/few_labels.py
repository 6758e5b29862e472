"""What are a few labels worth on features of photographs, chosen or sampled at random?

    DFAL_DATA=… python benchmarks/few_labels.py --data cat-dog --backbone lite2 --size 260

Features are computed once into --features; those of several backbones stand side by side. Each
seed draws pool and test images; labels come in batches of at most 10, and `FewLabelLearner` learns
after each batch. Test images are in no graph. Writes
benchmarks/results/few_labels-DATA-BACKBONE-SIZE.json.

With --others linear layers learn from the same labels in other ways: by logistic regression on the
labels alone, and by consistency on the unlabelled features.
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
from sklearn.linear_model import LogisticRegression
from torch import nn

import dfal
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
SCALE = 8.0
"""Length of the features in consistency: at length 1 no layer gets certain of a pseudo-label."""
CONSISTENCY = dfal.Training(
    epochs=1, steps=400, learning_rate=5e-3, schedule="cosine", unlabelled="consistency"
)
"""Its settings were chosen on seeds 100 and 101 of CIFAR-10's training images."""
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
    parted = arguments.data == "cifar-10-sample"
    features, truth = _side_by_side(arguments, "train" if parted else "")
    test = _side_by_side(arguments, "test") if parted else None
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(len(truth))
        pool, rest = order[: arguments.pool], order[arguments.pool :]
        yield seed, features[pool], truth[pool], *(test or (features[rest], truth[rest]))


def _side_by_side(arguments: argparse.Namespace, part: str) -> tuple[np.ndarray, np.ndarray]:
    read = [
        load(arguments.data, part, backbone, arguments.size, arguments.features)
        for backbone in arguments.backbone
    ]
    return np.concatenate([features for features, _ in read], axis=1), read[0][1]


def learn(
    neighbourhood: Neighbourhood,
    strategy: Strategy,
    seed: int,
    truth: np.ndarray,
    test: np.ndarray,
    test_truth: np.ndarray,
    others: bool,
) -> dict[str, list[float]]:
    """Return the accuracies on test images, in %, at each of `BUDGETS`, by way of learning."""
    classes = int(truth.max()) + 1
    learner = FewLabelLearner(neighbourhood, classes)
    pool = Pool.new(neighbourhood.rows, {})
    model = nn.Linear(neighbourhood.rows.shape[1], classes).requires_grad_(False)
    model.weight.zero_()
    model.bias.zero_()
    rows = neighbourhood.space(test)
    accuracies: dict[str, list[float]] = {"": []}

    def add(way: str, predicted: np.ndarray) -> None:
        right = float((predicted == test_truth).mean())
        accuracies.setdefault(way, []).append(round(100 * right, 2))

    for budget in BUDGETS:
        while pool.annotations < budget:
            k = min(budget - pool.annotations, BATCH)
            query = strategy(model, pool, k, generator(seed, pool.round, "select"))
            pool = pool.learn(query, truth[query.indices.numpy()])
            head = learner.update(pool.labels.numpy()).head
            model.weight.copy_(torch.from_numpy(head.weight))
            model.bias.copy_(torch.from_numpy(head.bias))
        add("", head(rows).argmax(1))
        if others and budget >= classes:
            known = pool.labels.numpy() >= 0
            labels = pool.labels.numpy()[known]
            regression = LogisticRegression(C=SCALE**2, max_iter=1000)
            regression.fit(neighbourhood.rows[known], labels)
            add(", logistic regression", regression.predict(rows))
            scaled = torch.from_numpy(np.asarray(neighbourhood.rows, np.float32)) * SCALE
            data = dfal.Pool.new(scaled, dict(zip(np.flatnonzero(known), labels, strict=True)))
            layer = dfal.fit(
                lambda: nn.Linear(rows.shape[1], classes),
                data.labelled_data(),
                CONSISTENCY,
                seed,
                unlabelled=data.images,
            )
            seen = torch.from_numpy(np.asarray(rows, np.float32)) * SCALE
            add(", consistency", dfal.predict(layer, seen).argmax(1).numpy())
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["cat-dog", "cifar-10-sample"], default="cat-dog")
    parser.add_argument("--backbone", nargs="+", default=["lite2"])
    parser.add_argument("--size", type=int, default=260, help="pixels a side")
    parser.add_argument("--pool", type=int, default=1000, help="images that may be labelled")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=[*STRATEGIES])
    parser.add_argument("--features", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--others", action="store_true", help="other ways to learn, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    named = "+".join(arguments.backbone)
    name = f"few_labels-{arguments.data}-{named}-{arguments.size}.json"
    out = Path(__file__).parent / "results" / name
    result: dict[str, Any] = {"labels": BUDGETS, "pool": arguments.pool, "accuracy": {}}
    backbone = backbones.load(arguments.backbone[0], (3, arguments.size, arguments.size))
    for seed, features, truth, test, test_truth in splits(arguments):
        neighbourhood = backbone.neighbourhood(features)
        for label in arguments.strategies:
            found = learn(
                neighbourhood, STRATEGIES[label], seed, truth, test, test_truth, arguments.others
            )
            for way, accuracies in found.items():
                result["accuracy"].setdefault(label + way, {})[seed] = accuracies
                print(seed, label + way, *accuracies, flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
