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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dfal import Training, backbones, fit
from dfal.backbones.with_pixels import SmallImage, with_pixels
from dfal.data.datasets import load
from dfal.data.image_array import Images
from dfal.labelling.learning.comparison import Validation, most_accurate
from dfal.labelling.learning.learners import MIN_TRIAL_LABELS, TRIAL_GROWTH
from dfal.labelling.settings import NO_BACKBONE
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.pool import Pool
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed, generator
from dfal.semisupervised import FewLabelLearner
from dfal.semisupervised.head import probabilities
from dfal.semisupervised.learner import Learned
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


def folded(images: torch.Tensor, labels: np.ndarray, classes: int, seed: int) -> Validation:
    """Return how LeNet5 predicts images that it was not trained on."""
    posterior = np.zeros((len(labels), classes), np.float32)
    for kept, own in folds_of(labels, seed):
        given = torch.from_numpy(np.flatnonzero(kept >= 0))
        model = scratch(images[given], torch.from_numpy(kept)[given], classes, seed)
        shown = torch.from_numpy(own).split(500)
        logits = torch.cat([predict(model, images[part]) for part in shown])
        posterior[own] = logits.softmax(1).numpy()
    return Validation.of(np.arange(len(labels)), labels, posterior)


def folded_rows(learner: FewLabelLearner, labels: np.ndarray, seed: int) -> Validation:
    """Return how images are predicted from features and the labels of the other folds."""
    posterior = np.zeros((len(labels), learner.classes), np.float32)
    for kept, own in folds_of(labels, seed):
        posterior[own] = probabilities(learner.update(kept).head(learner.rows[own]))
    return Validation.of(np.arange(len(labels)), labels, posterior)


def folds_of(labels: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labels without those of each fold, and the images of the fold."""
    fold = np.array([derive_seed(seed, i, "fold") % FOLDS for i in range(len(labels))])
    for number in range(FOLDS):
        yield np.where(fold == number, UNKNOWN, labels), np.flatnonzero(fold == number)


def without_own(learned: Learned, labels: np.ndarray) -> Validation:
    """Return how labels are predicted from all others, and how unlabelled images are."""
    left_out, others = learned.left_out, np.flatnonzero(labels < 0)
    images = np.concatenate([left_out.images, others])
    posterior = np.concatenate([left_out.posterior, learned.posterior[others]])
    return Validation.of(images, labels[images], posterior)


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
    lite2 = backbones.load("lite2", (3, size, size))
    both, small = with_pixels(lite2), SmallImage((c, h, w), 3)
    pixels = backbones.load("pixels", (c, h, w))
    tests = data.test_images.take(torch.arange(len(test_truth)))
    own = features(data_name, "train", data.images, size, folder)[order]
    own_test = features(data_name, "test", data.test_images, size, folder)
    with torch.inference_mode():
        spaces = {
            "lite2": (lite2, own, own_test),
            "lite2+pixels": (both, joined(own, small(images)), joined(own_test, small(tests))),
            "pixels": (
                pixels,
                pixels.network(images).half().numpy(),
                pixels.network(tests).half().numpy(),
            ),
        }
    neighbourhoods = {name: b.neighbourhood(rows) for name, (b, rows, _) in spaces.items()}
    learners = {name: FewLabelLearner(near, classes) for name, near in neighbourhoods.items()}
    candidates = ["lite2", "lite2+pixels"] if c == 3 else ["lite2+pixels", "lite2"]
    current = space = candidates[0]
    labels, out = np.full(len(order), -1), []
    folds: dict[str, Validation] = {}
    for count in range(BATCH, BUDGETS[-1] + 1, BATCH):
        head = learners[space].update(labels).head
        known = {i: int(label) for i, label in enumerate(labels.tolist()) if label >= 0}
        pool = Pool.new(learners[space].rows, known)
        strategy, rng = FewLabels(), generator(seed, count, "select")
        queried = strategy(head.layer(), pool, BATCH, rng).indices.numpy()
        labels[queried] = truth[queried]
        learned = {name: learner.update(labels) for name, learner in learners.items()}
        left_out = {name: without_own(learned[name], labels) for name in candidates}
        given = torch.from_numpy(np.flatnonzero(labels >= 0))
        shown, answers = images[given], torch.from_numpy(labels)[given]
        compared = folds[NO_BACKBONE].count if folds else 0
        if count >= max(MIN_TRIAL_LABELS, TRIAL_GROWTH * compared):
            folds = {name: folded_rows(learners[name], labels, seed) for name in candidates}
            folds[NO_BACKBONE] = folded(images, labels, classes, seed)
        current = most_accurate(current, left_out, folds)
        space = space if current == NO_BACKBONE else current
        if count not in BUDGETS:
            continue
        accuracy = {}
        for name, found in learned.items():
            predicted = found.head(neighbourhoods[name].space(spaces[name][2])).argmax(1)
            accuracy[name] = 100 * float((predicted == test_truth).mean())
        network = scratch(shown, answers, classes, seed)
        guesses = torch.cat([predict(network, part).argmax(1) for part in tests.split(500)])
        accuracy[NO_BACKBONE] = 100 * float((guesses.numpy() == test_truth).mean())
        said = {name: fold.right / fold.count for name, fold in folds.items()}
        row = {"data": data_name, "seed": seed, "labels": count, "chosen": current}
        out.append(row | {"accuracy": accuracy, "folds": said})
        print(out[-1], flush=True)
    return out


def joined(features: np.ndarray, pixels: torch.Tensor) -> np.ndarray:
    """Return features, and behind them the pixels."""
    return np.concatenate([features, pixels.half().numpy()], axis=1)


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
