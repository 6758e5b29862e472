"""Learn from one more answer and rank what is left, beside a full pass of the same work:

    python benchmarks/ranking.py --images 1000,10000,100000

Features are those of the pixels of mnist-5k, repeated with noise, with ten classes: what they show
does not matter here, only how many there are. The neighbourhood is computed once, as in a session
in the background. Then answers are given one after another, as the strategy of sessions chooses
them; each is followed by learning and by a ranking of 20 images. Medians of CPU and wall time.
"""

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dfal import backbones
from dfal.data.datasets import load
from dfal.labelling.learning.feature_learner import FeatureLearner
from dfal.labelling.settings import Settings
from dfal.pool import Pool
from dfal.query import UNKNOWN
from dfal.seeding import generator
from measure import taken_on, write

QUEUE = 20


class Source:
    """Features that are all there."""

    def __init__(self, features: Any):
        self.features = features

    def ready(self) -> Any:
        return np.ones(len(self.features), bool)

    def rows(self, indices: Any) -> Any:
        return self.features[indices]


class AllDecoded:
    """Stands in for a folder whose images are all decoded."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def ready(self) -> Any:
        return np.ones(self._count, bool)


def measure(count: int, answers: int) -> dict[str, Any]:
    """Return the seconds of the neighbourhood, and of learning and ranking after each answer."""
    data = load("mnist-5k")
    digits = data.images.array.reshape(len(data.images), -1).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    origin = np.arange(count) % len(digits)
    features = np.empty((count, digits.shape[1]), np.float16)
    for start in range(0, count, 5_000):
        part = origin[start : start + 5_000]
        noise = 0.1 * rng.standard_normal((len(part), digits.shape[1]), dtype=np.float32)
        features[start : start + 5_000] = digits[part] + noise
    truth = np.asarray(data.labels)[origin]
    state = SimpleNamespace(
        hold_out=np.zeros(count, bool), classes=[str(k) for k in range(10)], unreadable={}
    )
    session: Any = SimpleNamespace(settings=Settings(), state=state)
    folder: Any = AllDecoded(count)
    learner = FeatureLearner(
        session, folder, replace(backbones.load("pixels"), name="features"), Source(features)
    )
    cpu, wall = time.process_time(), time.perf_counter()
    stub: Any = state
    while not learner.is_ready:
        learner.refresh(stub)
        time.sleep(0.01)
    background = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    labels = torch.full((count,), UNKNOWN, dtype=torch.int64)
    chosen = list(range(10))
    learning, ranking, total = [], [], []
    empty = torch.empty(0, dtype=torch.int64)
    for number in range(answers):
        image = chosen.pop(0)
        labels[image] = int(truth[image])
        images = learner.images()
        pool = Pool(images, labels.clone(), empty, torch.empty(0, *images.shape), empty, empty)
        began, cpu = time.perf_counter(), time.process_time()
        model = learner.fit(pool, 10, 0)
        middle = time.perf_counter()
        if number >= 10 or not chosen:
            query = learner.strategy()(model, pool, QUEUE, generator(0, number, "select"))
            chosen = query.indices.tolist()
        end = time.perf_counter()
        if number >= 10:
            learning.append(middle - began)
            ranking.append(end - middle)
            total.append(time.process_time() - cpu)
    predicted = learner.logits(model, learner.images(), np.arange(count)).argmax(1).numpy()
    return {
        "images": count,
        "neighbourhood": background,
        "learn": median(learning),
        "rank": median(ranking),
        "learn and rank": median([a + b for a, b in zip(learning, ranking, strict=True)]),
        "slowest": max(a + b for a, b in zip(learning, ranking, strict=True)),
        "learn and rank, CPU": median(total),
        "accuracy": float((predicted == truth).mean()),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="1000,10000,100000")
    parser.add_argument("--answers", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for count in map(int, options.images.split(",")):
        rows.append(measure(count, options.answers))
        print({k: v if isinstance(v, dict) else round(v, 3) for k, v in rows[-1].items()})
    figures = taken_on(("numpy", "scipy", "scikit-learn", "torch")) | {"rows": rows}
    write(Path(__file__).parent / "results" / "ranking.json", figures)


if __name__ == "__main__":
    main()
