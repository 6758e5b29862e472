"""Whole trials with what makes dfal fast and without it: seconds, and whether the accuracies are
the same.

    python benchmarks/trial.py --data mnist --annotations 1000 --strategies dfal --seeds 1
    python benchmarks/trial.py --data mnist-5k --annotations 300 --first 30 --batch 30 --seeds 10

Each trial is run twice, in a process and a thread of its own, as many at a time as --processes:
"plain" trains, predicts and attacks with PyTorch's modules and autograd, and measures all
candidates to the end; "dfal" is as it is. Both start from the same labels and weights. Differences
of mean accuracies over the rounds are paired by seed, with a 95 % CI (Student's t).
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import dfal
from dfal.attacks import gradients
from dfal.data.datasets import load
from dfal.experiments.executors.base import keep_memory
from dfal.experiments.trial import Trial
from dfal.nn import dropout, inference, training_steps
from dfal.stats.significance import half_width
from dfal.strategies import named
from measure import taken_on, write

FORMS = ("plain", "dfal")


def plainly() -> None:
    for module in (training_steps, dropout, inference, gradients):
        patch.object(module, "fast_sequential", lambda *_: None).start()
    patch.object(
        dfal.DeepFool, "nearest", lambda self, model, images, _: self(model, images)
    ).start()


def alone(form: str, options: argparse.Namespace, strategy: str, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    keep_memory()
    if form == "plain":
        plainly()
    trial = Trial(
        dataset=options.data,
        strategy=named(strategy),
        annotations=options.annotations,
        first=options.first,
        batch=options.batch,
        seed=seed,
        training=dfal.Training(epochs=options.epochs),
    )
    start, records = perf_counter(), list(trial.run(load(options.data)))
    accuracy = [record.measurements["accuracy"] for record in records]
    costs = {
        name: round(sum(record.costs.get(name, 0) for record in records), 2)
        for name in ("fit", "select")
    }
    return {"seconds": round(perf_counter() - start, 2), "accuracy": accuracy, **costs}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare whole trials.")
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--annotations", type=int, default=300)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--strategies", default="dfal,uncertainty,random")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file  [default: results/trial-DATA-ANNOTATIONS.json beside this file]",
    )
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        form, strategy, seed = options.alone
        print(json.dumps(alone(form, options, strategy, int(seed))))
        return 0
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [
        (form, s, str(seed))
        for seed in seeds
        for s in options.strategies.split(",")
        for form in FORMS
    ]

    def run(job: tuple[str, str, str]) -> dict[str, Any]:
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", *job]
        found: dict[str, Any] = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        )
        return found

    with ThreadPoolExecutor(options.processes) as pool:
        found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    rows = {}
    for strategy in options.strategies.split(","):
        of = {form: [found[form, strategy, str(seed)] for seed in seeds] for form in FORMS}
        row: dict[str, Any] = {}
        for form, trials in of.items():
            row[form] = {
                key: round(mean(trial[key] for trial in trials), 1)
                for key in ("seconds", "fit", "select")
            }
        means = {
            form: np.array([mean(trial["accuracy"]) for trial in trials])
            for form, trials in of.items()
        }
        last = {
            form: np.array([trial["accuracy"][-1] for trial in trials])
            for form, trials in of.items()
        }
        for name, values in (("area", means), ("last", last)):
            difference = values["dfal"] - values["plain"]
            row[name] = {
                form: round(100 * float(value.mean()), 2) for form, value in values.items()
            }
            row[name] |= {
                "difference": round(100 * float(difference.mean()), 2),
                "±": round(100 * half_width(difference), 2),
            }
        rows[strategy] = row
    out = (
        options.out
        or Path(__file__).parent / "results" / f"trial-{options.data}-{options.annotations}.json"
    )
    settings = {
        key: getattr(options, key)
        for key in (
            "data",
            "annotations",
            "first",
            "batch",
            "epochs",
            "seeds",
            "first_seed",
            "processes",
        )
    }
    write(out, taken_on(("dfal", "torch")) | settings | {"strategies": rows})
    show(options, rows)
    return 0


def show(options: argparse.Namespace, rows: dict[str, Any]) -> None:
    table = Table(
        title=(
            f"Trials of {options.data} to {options.annotations} annotations, means over"
            f" {options.seeds} seeds"
        )
    )
    for heading in (
        "",
        "seconds: plain",
        "dfal",
        "fit: plain",
        "dfal",
        "select: plain",
        "dfal",
        "mean accuracy, %: plain",
        "dfal",
        "difference",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for strategy, row in rows.items():
        cells = [str(row[form][key]) for key in ("seconds", "fit", "select") for form in FORMS]
        area = row["area"]
        table.add_row(
            strategy,
            *cells,
            *(str(area[form]) for form in FORMS),
            f"{area['difference']:+.2f} ± {area['±']:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())
