"""What each part of the recipe `best` gives: all of it, and with one part changed at a time.

    python benchmarks/ablation.py --seeds 0 1 2 --store ablation.db

Trials go from 20 labels to 100 with a shorter training than that of `best`: fewer steps, fewer
unlabelled images in each, one augmentation for all. A stopped run resumes with the same command.
Accuracies are those on the test set; nothing is chosen by them.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dfal.atomic import atomic_write
from dfal.experiments import runner
from dfal.experiments.recipes import RECIPES
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.training_settings import Training
from dfal.strategies import ClusterMargin, Random

OUT = Path(__file__).resolve().parents[1] / "results" / "ablation.csv"

ALL: Training = replace(
    RECIPES["best"]["training"], steps=400, warm_steps=150, unlabelled_batch=64, augment="shapes"
)
PARTS: dict[str, dict[str, Any]] = {
    "all": {},
    "100 epochs in place of steps": {"training": replace(ALL, epochs=100, steps=0, warm_steps=0)},
    "steps of one size": {"training": replace(ALL, schedule="constant")},
    "no mean of the weights": {"training": replace(ALL, average=0.0)},
    "no augmentation": {"training": replace(ALL, augment="none")},
    "pseudo-labels without vat": {"training": replace(ALL, unlabelled="pseudo-labels")},
    "vat without pseudo-labels": {"training": replace(ALL, unlabelled="vat")},
    "labels alone": {"training": replace(ALL, unlabelled="none", without_dropout=True)},
    "each round from scratch": {"training": replace(ALL, warm_steps=0)},
    "begun with SimCLR's weights": {"start_from": "simclr"},
    "first images typical of pixels": {"first_by": "typical"},
    "first images at random": {"first_by": "random"},
    "queries at random": {"strategy": Random()},
    "a fifth of each query by coverage": {"coverage": 0.2},
}
"""Name → what it changes in a trial."""


def trial_of(part: str, dataset: str, seed: int) -> Trial:
    settings: dict[str, Any] = {
        "strategy": ClusterMargin(),
        "training": ALL,
        "annotations": 100,
        "first": 20,
        "batch": 40,
        "first_by": "simclr",
    }
    return Trial(dataset, seed=seed, **(settings | PARTS[part]))


def rows_of(store: Store, trials: dict[Trial, tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the accuracy of each finished round."""
    return [
        {
            "dataset": dataset,
            "part": part,
            "seed": trial.seed,
            "annotations": int(record.measurements["annotations"]),
            "accuracy": round(record.measurements["accuracy"], 4),
        }
        for trial, (dataset, part) in trials.items()
        for record in store.records(trial.id)
    ]


def rows_of_other_runs(measured: set[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Return the rows of the file whose data set, part and seed are not measured now."""
    if not OUT.exists():
        return []
    with OUT.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row["dataset"], row["part"], row["seed"]) not in measured]


def main() -> None:
    """Run all trials, write each round to the CSV file, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["mnist-5k", "quick-draw-sample"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--store", type=Path, default=Path("ablation.db"))
    options = parser.parse_args()
    trials = {
        trial_of(part, dataset, seed): (dataset, part)
        for dataset in options.datasets
        for seed in options.seeds
        for part in options.parts
    }
    with Store(options.store, write=True) as store:
        for trial, record in runner.run(list(trials), store, options.processes):
            accuracy, labels = record.measurements["accuracy"], record.measurements["annotations"]
            print(*trials[trial], trial.seed, int(labels), f"{accuracy:.2%}", flush=True)
        rows = rows_of(store, trials)
    kept = rows_of_other_runs({(*key, str(trial.seed)) for trial, key in trials.items()})
    with atomic_write(OUT) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)
    for dataset in options.datasets:
        for part in options.parts:
            cells = []
            for labels in (20, 60, 100):
                found = [
                    100 * row["accuracy"]
                    for row in rows
                    if (row["dataset"], row["part"], row["annotations"]) == (dataset, part, labels)
                ]
                spread = f" ± {stdev(found):.1f}" if len(found) > 1 else ""
                cells.append(f"{mean(found):.1f}{spread}")
            print(f"| {part} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
