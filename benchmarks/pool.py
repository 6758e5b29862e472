"""Measure time and memory of a query on pools from 1,000 images to a million, larger than memory.

    python benchmarks/pool.py --data mnist

The images are MNIST digits, moved by a few pixels and with noise, in a memory-mapped file of uint8
(784 MB for a million) that is written once beside --folder. Every measurement has a process of its
own, with a trained LeNet5, 1,000 labels and every other image a candidate; 10 are queried. Memory
is the peak resident size of the whole process, Python, PyTorch and the pages of the file that were
read included; above it stands what the process had before the query.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import dfal
from dfal.data.datasets import load
from dfal.strategies import named, with_candidates
from measure import reset_peak, resident, taken_on, write

LABELLED_IMAGES, QUERIED_IMAGES = 1000, 10


def digits(data: str, path: Path, count: int) -> None:
    """Write that many images, a thousand at a time."""
    images = load(data).images
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *images.shape))
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        which = np.arange(start, min(start + 1000, count)) % len(images)
        raw = images.raw(which)
        moved = np.roll(raw, tuple(rng.integers(-2, 3, 2)), axis=(-2, -1)).astype(np.int16)
        out[start : start + len(which)] = np.clip(moved + rng.integers(-12, 13, raw.shape), 0, 255)


def alone(strategy: str, path: Path, weights: Path, count: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    model = dfal.lenet5()
    model.load_state_dict(torch.load(weights, weights_only=True))
    images = np.load(path, mmap_mode="r")[: count + LABELLED_IMAGES]
    pool = dfal.Pool.new(images, {i: i % 10 for i in range(LABELLED_IMAGES)})
    select = with_candidates(named(strategy), None)
    before = resident()
    reset_peak()
    start = perf_counter()
    select(model, pool, QUERIED_IMAGES, dfal.generator(0, 0, "select"))
    return {"seconds": perf_counter() - start, "before_mb": before, "peak_mb": resident(peak=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Query pools of growing size.")
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--strategies",
        default=(
            "dfal:1000 10000 100000 1000000,core-set:10000 100000 1000000,"
            "badge:10000 100000 1000000,bald:10000 100000,egl:10000 100000"
        ),
    )
    parser.add_argument(
        "--folder", type=Path, help="where to write the file of images  [default: a temporary one]"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pool.json")
    parser.add_argument(
        "--figure", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures" / "pool.svg"
    )
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        name, path, weights, count = options.alone
        print(json.dumps(alone(name, Path(path), Path(weights), int(count), options.threads)))
        return 0
    torch.set_num_threads(options.threads)
    sizes = {
        text.split(":")[0]: list(map(int, text.split(":")[1].split()))
        for text in options.strategies.split(",")
    }
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path, weights = folder / "digits.npy", folder / "lenet5.pt"
        digits(options.data, path, LABELLED_IMAGES + max(max(counts) for counts in sizes.values()))
        torch.save(trained(options.data).state_dict(), weights)
        for name, counts in sizes.items():
            for count in counts:
                command = [
                    sys.executable,
                    __file__,
                    "--threads",
                    str(options.threads),
                    "--alone",
                    name,
                    path,
                    weights,
                    str(count),
                ]
                measured = json.loads(
                    subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                )
                micro = 1e6 * measured["seconds"] / count
                rows.append(
                    {"strategy": name, "images": count, "microseconds_an_image": round(micro, 1)}
                    | measured
                )
                print(rows[-1], flush=True)
    write(options.out, taken_on(("dfal", "torch", "numpy")) | {"data": options.data, "rows": rows})
    draw(rows, options.figure)
    table = Table(
        title=f"Querying {QUERIED_IMAGES} images of a pool: LeNet5, {options.threads} threads"
    )
    for heading in ("", "images", "seconds", "µs an image", "peak memory, MB", "before"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        figures = (
            f"{row['seconds']:.1f}",
            f"{row['microseconds_an_image']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['before_mb']:.0f}",
        )
        table.add_row(row["strategy"], f"{row['images']:,}", *figures)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


def trained(data: str) -> torch.nn.Module:
    dataset = load(data)
    order = torch.randperm(len(dataset.images), generator=dfal.generator(0, 0, "benchmark"))
    pool = dfal.Pool.new(
        dataset.images, {int(i): int(dataset.labels[i]) for i in order[:LABELLED_IMAGES]}
    )
    return dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=30), seed=0)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    cost, memory = figure.subplots(1, 2)
    for name in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == name]
        counts = [row["images"] for row in mine]
        cost.loglog(counts, [row["microseconds_an_image"] for row in mine], "o-", label=name)
        memory.semilogx(counts, [row["peak_mb"] for row in mine], "o-", label=name)
    memory.axhline(1500, color="grey", linewidth=1, linestyle="--")
    cost.set(xlabel="images of the pool", ylabel="µs an image", ylim=(10, 1000))
    memory.set(xlabel="images of the pool", ylabel="peak resident size, MB", ylim=(0, None))
    figure.legend(*cost.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
