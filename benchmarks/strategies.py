"""Measure what a query costs by each strategy, and compare the selection with other libraries.

    python benchmarks/strategies.py --data mnist

Strategies: full MNIST, LeNet5 trained on |L| = 1,000 labels, each strategy with its own K, picking
10 and 100. Each runs in a process of its own, once to warm up on a small pool, then `--repeats`
times, or fewer if that is slow. Seconds are medians; memory is the peak resident size above that
before the first query, images in memory and all.

Peers: the same features or probabilities go into both sides, which take turns. What is chosen is
compared: faster and worse is a failure (exit status 1). It needs scikit-activeml, of the dependency
group `test`.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import dfal
from dfal.data.datasets import load
from dfal.strategies import STRATEGIES
from dfal.strategies.batch_bald import batch_bald
from dfal.strategies.coverage import gaussian
from dfal.strategies.selection import cover, farthest_first, to_nearest, unit
from measure import interleaved, ratio, reset_peak, resident, taken_on, write
from table3 import features_84

LABELLED, PICKS = 1000, (10, 100)
MAX_SECONDS = 15
"""Seconds after which a strategy is not measured again."""


def pool_of(data: str, labelled: int, limit: int | None = None) -> dfal.Pool:
    """A pool with so many labelled images, drawn at random; the first `limit` images of the data
    set, or all."""
    dataset = load(data)
    images = dfal.Images(dataset.images.raw(np.arange(len(dataset.images))[:limit]))
    order = torch.randperm(len(images), generator=dfal.generator(0, 0, "benchmark"))
    return dfal.Pool.new(images, {int(i): int(dataset.labels[i]) for i in order[:labelled]})


def network(pool: dfal.Pool) -> nn.Sequential:
    return dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=30), seed=0)


def alone(name: str, data: str, weights: Path, repeats: int) -> dict[str, Any]:
    """Measure one strategy, in this process."""
    model = dfal.lenet5()
    model.load_state_dict(torch.load(weights, weights_only=True))
    strategy, pool = STRATEGIES[name], pool_of(data, LABELLED)
    strategy(model, pool_of(data, 50, 300), 10, dfal.generator(0, 0, "warm"))
    costs: dict[str, Any] = {
        "candidates": min(getattr(strategy, "candidates", None) or 10**9, len(pool.unlabelled))
    }
    for k in PICKS:
        seconds: list[float] = []
        before = resident()
        reset_peak()
        while len(seconds) < repeats and sum(seconds) < MAX_SECONDS:
            start = perf_counter()
            query = strategy(model, pool, k, dfal.generator(0, len(seconds), "select"))
            seconds.append(perf_counter() - start)
        assert len(query.indices.unique()) == k
        costs[str(k)] = {
            "seconds": round(median(seconds), 3),
            "all": [round(s, 3) for s in seconds],
            "peak_mb": resident(peak=True) - before,
        }
    return costs


def peers(model: nn.Module, data: str, repeats: int) -> dict[str, Any]:
    from skactiveml.pool import MaxHerding
    from skactiveml.pool._bald import batch_bald as activeml_batch_bald
    from skactiveml.pool._core_set import k_greedy_center

    pool = pool_of(data, LABELLED)
    rows = [unit_rows(model, pool, which) for which in (pool.unlabelled, pool.labelled)]
    comparisons = {}
    x = torch.cat([rows[1], rows[0]]).numpy()
    y = np.concatenate([np.zeros(len(rows[1])), np.full(len(rows[0]), np.nan)])

    def ours(k: int) -> Tensor:
        return farthest_first(rows[0], rows[1], k)[0]

    def theirs(k: int) -> Tensor:
        return torch.from_numpy(
            np.asarray(k_greedy_center(x, y, batch_size=k, random_state=0)[0])
        ) - len(rows[1])

    for k in (10, 100, 1000):
        comparisons[f"core-set: {k} of {len(rows[0]):,} × {x.shape[1]}"] = compare(
            {"dfal": partial(ours, k), "scikit-activeml": partial(theirs, k)},
            repeats,
            lambda chosen: float(
                to_nearest(rows[0], torch.cat([rows[1], rows[0][chosen]])).max().sqrt()
            ),
            smaller=True,
        )
    p = torch.randn(10, 1000, 10, generator=dfal.generator(0, 0, "p")).mul(3).softmax(2)
    comparisons["batch-bald: 4 of 1,000, 10 networks, exact"] = compare(
        {
            "dfal": lambda: batch_bald(p, 4, 10_000, torch.Generator())[0],
            "scikit-activeml": lambda: torch.from_numpy(
                np.asarray(activeml_batch_bald(p.double().numpy(), 4, 10_000, 0).argmax(1))
            ),
        },
        repeats,
        lambda chosen: joint_information(p, chosen),
        smaller=False,
    )
    few = rows[0][:5000]
    herding = MaxHerding(normalize_samples=False, metric_dict={"gamma": 2.0}, random_state=0)
    comparisons["max-herding: 100 of 5,000 × 84"] = compare(
        {
            "dfal": lambda: cover(few, few[:0], 100, kernel=partial(gaussian, sigma=0.5))[0],
            "scikit-activeml": lambda: torch.from_numpy(
                herding.query(few.numpy(), np.full(len(few), np.nan), batch_size=100)
            ),
        },
        repeats,
        lambda chosen: float(gaussian(to_nearest(few, few[chosen]), 0.5).sum()),
        smaller=False,
    )
    return comparisons


def unit_rows(model: nn.Module, pool: dfal.Pool, which: Tensor) -> Tensor:
    return unit(features_84(model, pool.images.take(which)))


def joint_information(p: Tensor, chosen: Tensor) -> float:
    """Return I(y_1 … y_k; ω) over all combinations of classes."""
    joint = torch.ones(1, len(p), dtype=torch.float64)
    for i in chosen.tolist():
        joint = (joint.unsqueeze(1) * p[:, i].double().T).flatten(0, 1)
    q = joint.mean(1)
    return float(-torch.xlogy(q, q).sum() + torch.xlogy(joint, joint).sum(0).mean())


def compare(
    sides: dict[str, Callable[[], Tensor]],
    repeats: int,
    worth: Callable[[Tensor], float],
    *,
    smaller: bool,
) -> dict[str, Any]:
    """Time two sides in turns, and compare what their choices are worth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        growth = {}
        for name, side in sides.items():
            before = resident()
            reset_peak()
            side()
            growth[name] = resident(peak=True) - before
        measured = interleaved(sides, repeats)
    worths = {name: worth(side.result) for name, side in measured.items()}
    ours, theirs = worths.values()
    good = ours <= theirs * 1.001 if smaller else ours >= theirs * 0.999
    (_, us), (peer, them) = measured.items()
    return {
        "peer": peer,
        "seconds": {name: round(median(side.seconds), 4) for name, side in measured.items()},
        "times_as_long": round(ratio(them, us), 1),
        "peak_mb": growth,
        "worth": worths,
        "as_good": good,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time strategies on full MNIST, and their selection next to other libraries'."
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--only",
        default=",".join(name for name in STRATEGIES if name != "uncertainty"),
        help="names, with commas",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "strategies.json",
        help="JSON file",
    )
    parser.add_argument("--alone", nargs=2, metavar=("NAME", "WEIGHTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        name, weights = options.alone
        print(json.dumps(alone(name, options.data, Path(weights), options.repeats)))
        return 0
    model = network(pool_of(options.data, LABELLED))
    costs = {}
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(model.state_dict(), weights)
        common = [
            sys.executable,
            __file__,
            "--data",
            options.data,
            "--repeats",
            str(options.repeats),
            "--threads",
            str(options.threads),
        ]
        for name in options.only.split(","):
            done = subprocess.run(
                [*common, "--alone", name, str(weights)], capture_output=True, text=True, check=True
            )
            costs[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, costs[name], flush=True)
    facts = taken_on(("dfal", "torch", "numpy", "scipy", "scikit-learn", "scikit-activeml")) | {
        "data": options.data,
        "repeats": options.repeats,
    }
    comparisons = peers(model, options.data, options.repeats)
    write(options.out, facts | {"strategies": costs, "peers": comparisons})
    show(facts, costs, comparisons)
    return 0 if all(row["as_good"] for row in comparisons.values()) else 1


def show(facts: dict[str, Any], costs: dict[str, Any], comparisons: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 128)
    table = Table(
        title=(
            f"A query on {facts['data']}, LeNet5, |L| = {LABELLED}: {facts['machine']},"
            f" {facts['threads']} threads"
        )
    )
    for heading in ("strategy", "K", "10 picks, s", "100 picks, s", "peak above images, MB"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for name, row in costs.items():
        table.add_row(
            name,
            f"{row['candidates']:,}",
            f"{row['10']['seconds']:.2f}",
            f"{row['100']['seconds']:.2f}",
            f"{row['100']['peak_mb']:,.0f}",
        )
    console.print(table)
    table = Table(title="The selection alone, next to another library")
    for heading in (
        "",
        "dfal, s",
        "peer, s",
        "times as long",
        "dfal, MB",
        "peer, MB",
        "worth: dfal",
        "peer",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for name, row in comparisons.items():
        mine, theirs = row["seconds"].values()
        sizes, worths = row["peak_mb"].values(), row["worth"].values()
        table.add_row(
            name,
            f"{mine:.3f}",
            f"{theirs:.2f}",
            str(row["times_as_long"]),
            *(f"{mb:,.0f}" for mb in sizes),
            *(f"{w:.4g}" for w in worths),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
