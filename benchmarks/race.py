"""DFAL as a race: does it ask about the same images as if all were measured, and how much work does
it save?

    python benchmarks/race.py --data mnist --threads 2

For each of several networks every image of the pool is measured to the end once. Then come many
queries for the 10 nearest of K drawn at random, as a race and as an exact race, and what they ask
about is compared with what the full measurement says. Work is counted in images whose gradients are
taken. The exit status is 1 if an exact race is ever wrong, or the other in more than one of 1,000
queries. Images that are equally far to 1e-5 may change places: float rounding depends on who shares
a batch.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import dfal
from dfal.attacks import gradients
from dfal.data.datasets import load
from measure import taken_on, write

N, SHARE = 10, 0.999


class Work:
    """Counts the images whose gradients a chain takes."""

    def __init__(self) -> None:
        self.images = 0
        between = gradients.ByChain.between

        def counted(view: Any, x: Tensor, order: Tensor) -> Any:
            self.images += len(x)
            return between(view, x, order)

        setattr(gradients.ByChain, "between", counted)  # noqa: B010

    def of(self, ask: Any) -> tuple[Any, int, float]:
        """What is returned, how much work it was, and how many seconds."""
        self.images, start = 0, perf_counter()
        return ask(), self.images, perf_counter() - start


def queries(
    work: Work,
    model: nn.Module,
    pool: dfal.Pool,
    distance: Tensor,
    full: float,
    candidates: int,
    times: int,
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, exact in (("race", False), ("exact race", True)):
        wrong, taken, seconds = 0, 0, 0.0
        for seed in range(times):
            rng = dfal.generator(seed, 0, "select")
            drawn = pool.unlabelled[
                torch.randperm(len(pool.unlabelled), generator=rng)[:candidates]
            ]
            farthest = distance[drawn].sort().values[N - 1]
            strategy = dfal.DFAL(candidates=candidates, exact=exact)
            rng = dfal.generator(seed, 0, "select")
            query, images, spent = work.of(
                lambda strategy=strategy, rng=rng: strategy(model, pool, N, rng)
            )
            wrong += bool((distance[query.indices] > farthest * (1 + 1e-5)).any())
            taken, seconds = taken + images, seconds + spent
        each = {
            "queries": times,
            "wrong": wrong,
            "gradients": taken / times / candidates,
            "seconds": seconds / times,
        }
        found[name] = each | {"work_saved": 1 - each["gradients"] / full}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare DFAL as a race with measuring every image."
    )
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--labels", default="30,200,1000", help="how many labels each network was trained on"
    )
    parser.add_argument(
        "--queries", default="300:350,800:100,10000:8,60000:1", help="K:how many, with commas"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "race.json")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    dataset, work = load(asked.data), Work()
    rows: list[dict[str, Any]] = []
    for labelled in map(int, asked.labels.split(",")):
        order = torch.randperm(
            len(dataset.images), generator=dfal.generator(labelled, 0, "benchmark")
        )
        pool = dfal.Pool.new(
            dataset.images, {int(i): int(dataset.labels[i]) for i in order[:labelled]}
        )
        model = dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=50), seed=0)
        distance = torch.full((len(dataset.images),), torch.inf)

        def measure(
            model: nn.Module = model, pool: dfal.Pool = pool, distance: Tensor = distance
        ) -> None:
            for part in pool.unlabelled.split(4096):
                distance[part] = dfal.DeepFool()(model, pool.images.take(part)).distance

        _, images, seconds = work.of(measure)
        left = len(pool.unlabelled)
        full = images / left
        rows.append(
            {"labelled": labelled, "K": left, "form": "full", "gradients": full, "seconds": seconds}
        )
        for text in asked.queries.split(","):
            most, times = map(int, text.split(":"))
            candidates = min(most, left)
            for form, each in queries(work, model, pool, distance, full, candidates, times).items():
                rows.append({"labelled": labelled, "K": candidates, "form": form} | each)
    write(asked.out, taken_on(("dfal", "torch")) | {"data": asked.data, "n": N, "rows": rows})
    show(rows)
    race = [row for row in rows if row["form"] == "race"]
    wrong, of = (sum(int(row[key]) for row in race) for key in ("wrong", "queries"))
    print(f"race: {wrong} of {of} queries differ from the full measurement")
    exact = sum(int(row["wrong"]) for row in rows if row["form"] == "exact race")
    print(f"exact race: {exact} differ")
    return int(exact > 0 or wrong > (1 - SHARE) * of)


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"The {N} nearest of K images: gradients an image, seconds a query")
    for heading in (
        "labels",
        "K",
        "",
        "queries",
        "wrong",
        "gradients an image",
        "work saved",
        "seconds",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in rows:
        saved = f"{row['work_saved']:.1%}" if "work_saved" in row else ""
        counts = [str(row.get(key, "")) for key in ("queries", "wrong")]
        figures = (f"{row['gradients']:.3f}", saved, f"{row['seconds']:.2f}")
        table.add_row(str(row["labelled"]), f"{row['K']:,}", row["form"], *counts, *figures)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    sys.exit(main())
