"""Table 3 of the paper: seconds to select 10 of |U| = 800 MNIST digits, LeNet5, |L| = 100 and 1000.

    python benchmarks/table3.py --data mnist --threads 2

The paper: DFAL 126.54 s, CORE-SET 784.99 s, CORE-SET with regularisation 891.78 s (its robust
programme, on another machine). Sides take turns; seconds are medians. Both kinds of CORE-SET
include the features of all images; the robust one says what its solver proved. The stretch, 100 of
3,900 with |L| = 100, is the selection alone.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import dfal
from dfal.data.datasets import load
from dfal.strategies.core_set import k_centre
from measure import interleaved, ratio, taken_on, write

UNLABELLED, PICKS = 800, 10
PAPER = {"dfal": 126.54, "core-set": 784.99, "core-set-robust": 891.78}
STRATEGIES: dict[str, dfal.Strategy] = {
    "dfal": dfal.DFAL(candidates=None),
    "dfal, exact": dfal.DFAL(candidates=None, exact=True),
    "core-set": dfal.CoreSet(candidates=None),
    "core-set-robust": dfal.RobustCoreSet(candidates=None),
}


def pool_of(data: str, labelled: int, unlabelled: int) -> dfal.Pool:
    """So many labelled images and so many others, drawn at random."""
    dataset = load(data)
    order = torch.randperm(len(dataset.images), generator=dfal.generator(0, 0, "table 3"))[
        : labelled + unlabelled
    ]
    return dfal.Pool.new(
        dataset.images.take(order), {i: int(dataset.labels[order[i]]) for i in range(labelled)}
    )


def network(pool: dfal.Pool) -> nn.Sequential:
    return dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=30), seed=0)


def features_84(model: nn.Module, images: Tensor) -> Tensor:
    """The activations of LeNet5's hidden layer of 84 units, which others take for its features."""
    return dfal.features(nn.Sequential(*list(model.children())[:-2]), images)


def time_selection(data: str, labelled: int, repeats: int) -> dict[str, Any]:
    pool = pool_of(data, labelled, UNLABELLED)
    model = network(pool)
    sides = {
        name: partial(strategy, model, pool, PICKS, dfal.generator(0, 0, "select"))
        for name, strategy in STRATEGIES.items()
    }
    measured = interleaved(sides, repeats)
    found = {}
    for name, side in measured.items():
        row: dict[str, Any] = {
            "seconds": round(median(side.seconds), 4),
            "times_dfals": round(ratio(side, measured["dfal"]), 2),
        }
        if side.result.bound is not None:
            row |= {"radius": float(side.result.scores[0]), "proved": side.result.bound}
        found[name] = row
    return found


def stretch(data: str) -> dict[str, float]:
    pool = pool_of(data, 100, 3900)
    model = network(pool)
    rows, centres = (
        features_84(model, pool.images.take(which)) for which in (pool.unlabelled, pool.labelled)
    )
    start = perf_counter()
    answer = k_centre(rows, centres, 100, seconds=60)
    return {
        "seconds": round(perf_counter() - start, 2),
        "radius": answer.radius,
        "proved": answer.bound,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Time a selection as in Table 3 of the paper.")
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "table3.json",
        help="JSON file",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {
        f"|L| = {labelled}": time_selection(options.data, labelled, options.repeats)
        for labelled in (100, 1000)
    }
    last = stretch(options.data)
    facts = taken_on(("dfal", "torch", "scipy")) | {
        "data": options.data,
        "repeats": options.repeats,
    }
    write(options.out, facts | found | {"stretch: 100 of 3,900": last})
    table = Table(
        title=(
            f"{PICKS} of {UNLABELLED} digits, LeNet5: {facts['machine']}, {facts['threads']}"
            " threads"
        )
    )
    for heading in ("", "|L|", "seconds", "times dfal's", "paper, s", "radius (proved)"):
        table.add_column(heading, justify="right" if heading else "left")
    for labelled, rows in found.items():
        for name, row in rows.items():
            radius = f"{row['radius']:.4f} ({row['proved']:.4f})" if "radius" in row else ""
            paper = str(PAPER.get(name, ""))
            table.add_row(
                name, labelled[6:], f"{row['seconds']:.3f}", str(row["times_dfals"]), paper, radius
            )
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print("stretch, 100 of 3,900:", last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
