"""dfal select on many digits, with worker processes and with Ray:

    DFAL_DATA=… python benchmarks/large_pool.py --images 1000000

The pool is the training set of MNIST, repeated as often as it takes: marked so, since no pool of a
million different digits is there; equal images get equal scores, so that ties are tested too. The
model is LeNet5 trained on 500 of them. Each command runs as a process of its own. All must select
the same images; figures are images a second, the CPU seconds of the command and of its own worker
processes (those of Ray are not counted), and the largest memory of a worker.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import dfal
from dfal.data.datasets import load
from dfal.models import ModelCard, save
from measure import taken_on, write

RESULTS = Path(__file__).parent / "results"

WORKERS = ("multiprocessing.spawn", "ray::_Actor", "dfal\0select")
"""What the command lines of workers contain."""


def make(folder: Path, images: int) -> int:
    """Write pool and model, and return how many different images the pool has."""
    data = load("mnist")
    labelled = {index: int(data.labels[index]) for index in range(0, 60_000, 120)}
    pool = dfal.Pool.new(data.images, labelled)
    model = dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=20), seed=0)
    card = ModelCard(classes=tuple(data.classes), image=(1, 28, 28), annotations=len(labelled))
    save(model, card, folder / "model.safetensors")
    file = np.lib.format.open_memmap(
        folder / "pool.npy", mode="w+", dtype=np.uint8, shape=(images, 1, 28, 28)
    )
    count = len(data.images)
    for start in range(0, images, count):
        some = np.arange(min(count, images - start))
        file[start : start + len(some)] = data.images.raw(some)
    file.flush()
    return min(count, images)


class Peak:
    """The largest memory of any worker, in MiB, read from /proc twice a second."""

    def __init__(self) -> None:
        self.mebibytes, self._over = 0.0, threading.Event()
        self._run = os.environ["DFAL_BENCHMARK"]
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for folder in Path("/proc").iterdir():
                with contextlib.suppress(OSError, StopIteration):
                    line = (folder / "cmdline").read_bytes().decode(errors="replace")
                    if any(mark in line for mark in WORKERS) and _session(folder) == self._run:
                        self.mebibytes = max(self.mebibytes, _peak(folder))


def _session(folder: Path) -> str:
    """Return the mark in the environment of a process."""
    entries = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
    return next(
        (entry.partition("=")[2] for entry in entries if entry.startswith("DFAL_BENCHMARK=")), "-"
    )


def _peak(folder: Path) -> float:
    lines = (folder / "status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def run(folder: Path, name: str, options: str) -> dict[str, Any]:
    """Run a selection, and return seconds, CPU seconds and memory."""
    out = folder / f"{name}.csv"
    command = [sys.executable, "-m", "dfal", "select", *options.split(), "--quiet"]
    command += ["--pool", "pool.npy", "--model", "model.safetensors", "--out", str(out)]
    start, before = time.perf_counter(), os.times()
    with Peak() as peak:
        subprocess.run(command, cwd=folder, check=True)
    seconds, after = time.perf_counter() - start, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    found = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
    return found | {"worker_mebibytes": round(peak.mebibytes)}


def main() -> int:
    parser = argparse.ArgumentParser(description="dfal select on many digits.")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("-k", type=int, default=1000)
    parser.add_argument("--strategies", default="margin,dfal")
    parser.add_argument("--workers", default="1,2")
    options = parser.parse_args()
    os.environ["DFAL_BENCHMARK"] = str(os.getpid())
    figures: dict[str, Any] = taken_on(("dfal", "torch", "numpy", "ray"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        distinct = make(folder, options.images)
        figures |= {"images": options.images, "different images": distinct, "k": options.k}
        for strategy in options.strategies.split(","):
            sides, tables = {}, set()
            for workers in options.workers.split(","):
                for executor in ("local", "ray"):
                    name = f"{executor}, {workers} workers"
                    rest = f"--executor {executor} --workers {workers} --strategy {strategy}"
                    sides[name] = run(folder, name, f"{rest} -k {options.k}")
                    sides[name]["images_a_second"] = round(options.images / sides[name]["seconds"])
                    tables.add((folder / f"{name}.csv").read_bytes())
                    print(strategy, name, sides[name], flush=True)
            figures[strategy] = {"equal": len(tables) == 1} | sides
            if len(tables) > 1:
                print(f"{strategy}: the tables differ", file=sys.stderr)
    name = options.strategies.replace(",", "-")
    write(RESULTS / f"large_pool-{name}-{options.images}.json", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
