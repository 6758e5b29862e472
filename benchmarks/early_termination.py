"""DFAL with early termination: does it select the images that measuring every distance selects, and
how much work does it save?

    python benchmarks/early_termination.py --data mnist --threads 2

For each of several networks every image of the pool is measured to the end once. Then many queries
for the 10 nearest of K candidates drawn at random, each with early termination and with exact early
termination, are compared with the full measurement. Work is counted in images whose gradients are
computed. The exit status is 1 if the exact form is ever wrong, or the other in more than one of
1,000 queries. Images that are equally far to 1e-5 may change places: float rounding depends on the
batch that an image is in.
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

NEAREST = 10
"""Images that a query selects."""

MAX_WRONG_SHARE = 0.001
"""Share of queries that may differ from the full measurement."""

FORMS = {"early termination": False, "exact early termination": True}
"""`DFAL.exact` of each form."""


class GradientCount:
    """Counts the images whose gradients are computed."""

    def __init__(self) -> None:
        self.images = 0
        original = gradients.FusedGradients.logit_gradients

        def counted(self_: Any, x: Tensor, order: Tensor) -> Any:
            self.images += len(x)
            return original(self_, x, order)

        setattr(gradients.FusedGradients, "logit_gradients", counted)  # noqa: B010

    def measure(self, function: Any) -> tuple[Any, int, float]:
        """Return what a function returns, the images it took gradients of, and its seconds."""
        self.images, start = 0, perf_counter()
        return function(), self.images, perf_counter() - start


def compare(
    count: GradientCount,
    model: nn.Module,
    pool: dfal.Pool,
    distance: Tensor,
    full: float,
    candidates: int,
    times: int,
) -> dict[str, dict[str, float]]:
    """Return the figures of each form over `times` queries."""
    figures: dict[str, dict[str, float]] = {}
    for form, exact in FORMS.items():
        wrong, gradient_images, seconds = 0, 0, 0.0
        for seed in range(times):
            rng = dfal.generator(seed, 0, "select")
            drawn = pool.unlabelled[
                torch.randperm(len(pool.unlabelled), generator=rng)[:candidates]
            ]
            farthest = distance[drawn].sort().values[NEAREST - 1]
            strategy = dfal.DFAL(candidates=candidates, exact=exact)
            rng = dfal.generator(seed, 0, "select")
            query, images, spent = count.measure(
                lambda strategy=strategy, rng=rng: strategy(model, pool, NEAREST, rng)
            )
            wrong += bool((distance[query.indices] > farthest * (1 + 1e-5)).any())
            gradient_images, seconds = gradient_images + images, seconds + spent
        gradients_an_image = gradient_images / times / candidates
        figures[form] = {
            "queries": times,
            "wrong": wrong,
            "gradients": gradients_an_image,
            "seconds": seconds / times,
            "work_saved": 1 - gradients_an_image / full,
        }
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare DFAL with early termination with measuring every image."
    )
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--labels", default="30,200,1000", help="how many labels each network was trained on"
    )
    parser.add_argument(
        "--queries", default="300:350,800:100,10000:8,60000:1", help="K:how many, with commas"
    )
    default = Path(__file__).parent / "results" / "early-termination.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset, count = load(arguments.data), GradientCount()
    rows: list[dict[str, Any]] = []
    for labelled in map(int, arguments.labels.split(",")):
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
            for chunk in pool.unlabelled.split(4096):
                distance[chunk] = dfal.DeepFool()(model, pool.images.take(chunk)).distance

        _, images, seconds = count.measure(measure)
        left = len(pool.unlabelled)
        full = images / left
        rows.append(
            {"labelled": labelled, "K": left, "form": "full", "gradients": full, "seconds": seconds}
        )
        for text in arguments.queries.split(","):
            most, times = map(int, text.split(":"))
            candidates = min(most, left)
            figures = compare(count, model, pool, distance, full, candidates, times)
            rows += [
                {"labelled": labelled, "K": candidates, "form": form} | each
                for form, each in figures.items()
            ]
    write(
        arguments.out,
        taken_on(("dfal", "torch")) | {"data": arguments.data, "n": NEAREST, "rows": rows},
    )
    show(rows)
    wrong = dict.fromkeys(FORMS, 0)
    queries = dict.fromkeys(FORMS, 0)
    for row in rows:
        if row["form"] in FORMS:
            wrong[row["form"]] += row["wrong"]
            queries[row["form"]] += row["queries"]
    for form in FORMS:
        print(f"{form}: {wrong[form]} of {queries[form]} queries differ from the full measurement")
    inexact, exact = FORMS
    return int(wrong[exact] > 0 or wrong[inexact] > MAX_WRONG_SHARE * queries[inexact])


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"The {NEAREST} nearest of K images: gradients an image, seconds a query")
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
