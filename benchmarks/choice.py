"""What does `auto` choose on images that are no photographs, and what does the choice cost?

    python benchmarks/choice.py --data mnist-5k quick-draw-sample shoe-bag-sample --seeds 0 1 2

Labels are chosen in batches of 10 by `few-labels` on the features that are learnt from at that
time, beginning with those of the backbone. At 50, 100 and 200 labels the three are compared as in a
session: features of the backbone and of the pixels by leave-one-out, the better of them and a
network from scratch by three folds. All three then predict the test images, so that the choice can
be judged. Features of the backbone are computed once into --features. One thread.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dfal import Training, backbones, fit
from dfal.data.datasets import load
from dfal.data.image_array import Images
from dfal.labelling.learning.learners import Validation, is_better
from dfal.labelling.settings import NO_BACKBONE
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.pool import Pool
from dfal.seeding import derive_seed, generator
from dfal.semisupervised import FewLabelLearner, Neighbourhood
from dfal.strategies import FewLabels
from measure import taken_on, write

BUDGETS = (50, 100, 200)
BATCH = 10
FOLDS = 3
CHUNK = 64


@torch.inference_mode()
def features(name: str, part: str, images: Images, size: int, folder: Path) -> np.ndarray:
    """Return the backbone's features of a data set's images; computed where they are missing."""
    path = folder / f"{name}-{part}.lite2.{size}.npy"
    if not path.exists():
        network = backbones.load("lite2", (3, size, size)).network
        rows = []
        for indices in torch.arange(len(images)).split(CHUNK):
            pixels = images.take(indices).expand(-1, 3, -1, -1)
            pixels = nn.functional.interpolate(pixels, (size, size), mode="bicubic").clamp(0, 1)
            rows.append(network(pixels).half().numpy())
        np.save(path, np.concatenate(rows))
    found: np.ndarray = np.load(path)
    return found


def scratch(images: torch.Tensor, labels: torch.Tensor, classes: int, seed: int) -> nn.Module:
    """Train LeNet5 on some labelled images."""
    shape = tuple(images.shape[1:])
    pool = Pool.new(images, dict(enumerate(labels.tolist())))
    return fit(lambda: build("lenet5", shape, classes), pool.labelled_data(), Training(), seed)


def folded(images: torch.Tensor, labels: torch.Tensor, classes: int, seed: int) -> np.ndarray:
    """Return which labels LeNet5 predicts that was not trained on them."""
    fold = np.array([derive_seed(seed, i, "fold") % FOLDS for i in range(len(labels))])
    right = np.zeros(len(labels), bool)
    for held in range(FOLDS):
        rest, own = (
            torch.from_numpy(np.flatnonzero(mask)) for mask in (fold != held, fold == held)
        )
        model = scratch(images[rest], labels[rest], classes, seed)
        right[own.numpy()] = (predict(model, images[own]).argmax(1) == labels[own]).numpy()
    return right


def folded_rows(learner: FewLabelLearner, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return which labels are predicted from features and the labels of the other folds."""
    given = np.flatnonzero(labels >= 0)
    fold = np.array([derive_seed(seed, i, "fold") % FOLDS for i in range(len(given))])
    right = np.zeros(len(given), bool)
    for held in range(FOLDS):
        own = given[fold == held]
        kept = labels.copy()
        kept[own] = -1
        head = learner.update(kept).head
        right[fold == held] = head(learner.rows[own]).argmax(1) == labels[own]
    return right


def session(
    data_name: str, seed: int, size: int, pool_size: int, folder: Path
) -> list[dict[str, Any]]:
    """Return for each of `BUDGETS` what is chosen, and the accuracy of each choice."""
    data = load(data_name)
    order = np.random.default_rng(seed).permutation(len(data.images))[:pool_size]
    truth, test_truth = np.asarray(data.labels)[order], np.asarray(data.test_labels)
    classes = int(max(truth.max(), test_truth.max())) + 1
    images = data.images.take(torch.from_numpy(order))
    c, h, w = data.images.shape
    backbone = backbones.load("pixels", (c, h, w))
    pixels = backbone.network
    tests = data.test_images.take(torch.arange(len(test_truth)))
    with torch.inference_mode():
        spaces = {
            "lite2": (
                features(data_name, "train", data.images, size, folder)[order],
                features(data_name, "test", data.test_images, size, folder),
            ),
            "pixels": (pixels(images).half().numpy(), pixels(tests).half().numpy()),
        }
    neighbourhoods = {
        "lite2": Neighbourhood.of(spaces["lite2"][0]),
        "pixels": backbone.neighbourhood(spaces["pixels"][0]),
    }
    learners = {space: FewLabelLearner(near, classes) for space, near in neighbourhoods.items()}
    current, labels, out = "lite2", np.full(len(order), -1), []
    for count in range(BATCH, BUDGETS[-1] + 1, BATCH):
        space = current if current in learners else "lite2"
        head = learners[space].update(labels).head
        model = nn.Linear(head.weight.shape[1], classes).requires_grad_(False)
        model.weight.copy_(torch.from_numpy(head.weight))
        model.bias.copy_(torch.from_numpy(head.bias))
        known = {i: int(label) for i, label in enumerate(labels.tolist()) if label >= 0}
        pool = Pool.new(learners[space].rows, known)
        queried = FewLabels()(model, pool, BATCH, generator(seed, count, "select")).indices.numpy()
        labels[queried] = truth[queried]
        learned = {name: learner.update(labels) for name, learner in learners.items()}
        left_out = {
            name: Validation(left.images, left.labels == left.predicted)
            for name, left in ((name, found.left_out) for name, found in learned.items())
        }
        best = current if current in learners else "lite2"
        best = next((name for name in left_out if is_better(left_out[name], left_out[best])), best)
        if count not in BUDGETS:
            current = current if current == NO_BACKBONE else best
            continue
        given = torch.from_numpy(np.flatnonzero(labels >= 0))
        own, own_labels = images[given], torch.from_numpy(labels)[given]
        folds = {
            name: Validation(given.numpy(), folded_rows(learner, labels, seed))
            for name, learner in learners.items()
        }
        folds[NO_BACKBONE] = Validation(given.numpy(), folded(own, own_labels, classes, seed))
        is_kept = current == NO_BACKBONE and not is_better(folds[best], folds[NO_BACKBONE])
        current = NO_BACKBONE if is_kept or is_better(folds[NO_BACKBONE], folds[best]) else best
        accuracy = {}
        for name, found in learned.items():
            predicted = found.head(neighbourhoods[name].space(spaces[name][1])).argmax(1)
            accuracy[name] = 100 * float((predicted == test_truth).mean())
        network = scratch(own, own_labels, classes, seed)
        guesses = torch.cat([predict(network, part).argmax(1) for part in tests.split(500)])
        accuracy[NO_BACKBONE] = 100 * float((guesses.numpy() == test_truth).mean())
        said = {name: float(fold.is_right.mean()) for name, fold in folds.items()}
        row = {"data": data_name, "seed": seed, "labels": count, "chosen": current}
        out.append(row | {"accuracy": accuracy, "folds": said})
        print(out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["mnist-5k", "quick-draw-sample", "shoe-bag-sample"]
    parser.add_argument("--data", nargs="+", default=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--features", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in options.data:
        for seed in options.seeds:
            rows += session(name, seed, options.size, options.pool, options.features)
    figures = taken_on(("numpy", "scipy", "torch")) | {"rows": rows}
    write(Path(__file__).parent / "results" / "choice.json", figures)


if __name__ == "__main__":
    main()
