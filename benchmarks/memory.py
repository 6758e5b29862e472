"""Peak memory of selections and of forward passes:

    python benchmarks/memory.py

Features: 100 of a million rows of 384 numbers are queried, candidates are all of them. The rows are
random, in a memory-mapped file of float16, as trials on a backbone have them, and the network is
one linear layer. Photographs: the logits of 512 images of 224 × 224 pixels by a ResNet-18, and
10 of them queried. Every measurement has a process of its own. `anonymous_mb` is the largest
resident memory that the process itself has allocated, above what it had before; `peak_mb` also has
the pages of the mapped file, which the system takes back when it needs them. `ratio` is
anonymous_mb to the size of the features, 4 bytes a number. A selection that takes longer than
`--seconds`, or fails (with more than `--gigabytes`, say), has a row that says so.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import dfal
from dfal.strategies import named, with_candidates
from dfal.strategies.closed_form import in_closed_form
from measure import reset_peak, resident, taken_on, write
from networks import PhotographResNet18

FEATURES, CLASSES, LABELLED = 384, 10, 100
STRATEGIES = (
    "random,entropy,margin,least-confidence,ceal,dfal,dfal-no-twins,dfal-batch-no-twins,egl,"
    "egl-last-layer,core-set,core-set-robust,badge,cluster-margin,typi-clust,prob-cover,"
    "max-herding,u-herding,few-labels"
)
"""All that need no dropout, which a linear layer has not."""
PHOTO_STRATEGIES = (
    "predict,entropy,dfal-no-twins,egl-last-layer,core-set,badge,cluster-margin,typi-clust"
)


class AnonymousPeak(threading.Thread):
    """Watches the anonymous memory of this process until it is stopped. Linux."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = self.now()
        self._ended = threading.Event()

    @staticmethod
    def now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1e3

    def run(self) -> None:
        while not self._ended.wait(0.002):
            self.peak = max(self.peak, self.now())

    def stop(self) -> float:
        self._ended.set()
        self.join()
        return round(self.peak - self.before, 1)


def select(model: nn.Module, images: Any, strategy: str, k: int, labelled: int) -> dict[str, Any]:
    pool = dfal.Pool.new(images, {i: i % CLASSES for i in range(labelled)})
    before = resident()
    reset_peak()
    watch = AnonymousPeak()
    watch.start()
    start = time.process_time()
    if strategy == "predict":
        dfal.predict(model, images.take(torch.arange(len(images))))
    else:
        chosen = with_candidates(named(strategy), None)
        chosen = in_closed_form(chosen) if isinstance(model, nn.Linear) else chosen
        chosen(model, pool, k, dfal.generator(0, 0, "select"))
    seconds = time.process_time() - start
    return {
        "cpu_seconds": round(seconds, 1),
        "anonymous_mb": watch.stop(),
        "peak_mb": round(resident(peak=True) - before, 1),
    }


def alone(kind: str, strategy: str, path: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = dfal.Images(np.load(path, mmap_mode="r"))
    if kind == "features":
        return select(nn.Linear(FEATURES, CLASSES), images, strategy, 100, LABELLED)
    return select(PhotographResNet18(CLASSES), images, strategy, 10, 10)


@dataclass(frozen=True)
class Limits:
    """Of one selection: seconds, and gigabytes of addresses."""

    seconds: float
    gigabytes: float

    def measured(self, kind: str, strategy: str, path: Path) -> dict[str, Any]:
        command = [sys.executable, __file__, "--alone", kind, strategy, str(path)]
        row: dict[str, Any] = {"strategy": strategy}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=True,
                timeout=self.seconds,
                preexec_fn=self._limit_memory,
            )
            row |= json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            row["stopped"] = f"longer than {self.seconds:g} s"
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            row["stopped"] = said[-1]
        print(kind, row, flush=True)
        return row

    def _limit_memory(self) -> None:
        most = int(self.gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--photographs", type=int, default=512)
    parser.add_argument("--photo-strategies", default=PHOTO_STRATEGIES)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--gigabytes", type=float, default=16)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "memory.json"
    )
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(*options.alone)))
        return
    size = options.rows * FEATURES * 4 / 1e6
    limits = Limits(options.seconds, options.gigabytes)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (options.rows, FEATURES))
        for start in range(0, options.rows, 10_000):
            rows[start : start + 10_000] = rng.standard_normal(rows[start : start + 10_000].shape)
        del rows
        photographs = Path(folder) / "photographs.npy"
        np.save(photographs, rng.integers(0, 256, (options.photographs, 3, 224, 224), np.uint8))
        figures: dict[str, Any] = {
            **taken_on(("torch", "numpy", "transformers")),
            "rows": options.rows,
            "features_mb": size,
            "features": [],
            "photographs": [],
        }
        for kind, strategies, file in (
            ("features", options.strategies, path),
            ("photographs", options.photo_strategies, photographs),
        ):
            for name in filter(None, strategies.split(",")):
                row = limits.measured(kind, name, file)
                if kind == "features" and "anonymous_mb" in row:
                    row["ratio"] = round(row["anonymous_mb"] / size, 2)
                figures[kind].append(row)
                write(options.out, figures)


if __name__ == "__main__":
    main()
