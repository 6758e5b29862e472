"""Which strategy selects best where networks learn from every image, with a short training.

    python benchmarks/selection.py --seeds 0 1 2 --store selection.db
    dfal report selection.db

The networks are those of the recipe `best`, with fewer and smaller steps and one augmentation for
all. As the first network of a seed is the same for all strategies, it is trained once, which `dfal
run` does not do; the accuracies are the same. A stopped run resumes with the same command.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfal.experiments.provenance import environment
from dfal.experiments.recipes import RECIPES
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.experiments.trial_progress import weights_of
from dfal.strategies import ClusterMargin, Random, named, with_candidates

LOOKS = ClusterMargin(looks=3)
ARMS: dict[str, dict[str, Any]] = {
    "random": {"strategy": Random()},
    "uncertainty": {"strategy": named("uncertainty")},
    "dfal": {"strategy": named("dfal")},
    "cluster-margin": {"strategy": ClusterMargin()},
    "looks": {"strategy": LOOKS},
    "coverage": {"strategy": ClusterMargin(), "coverage": 0.2},
}
"""Name → what it changes in a trial; of all images, but for dfal with its 300 candidates."""

first_networks: dict[str, nn.Module] = {}
"""The first network of the last seed, by the trial without its strategy."""


def share_first_network(fit: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return `Trial._fit` that trains the first network of a seed once for all strategies."""

    def shared(trial: Trial, data: Any, pool: Any, seed: int, progress: Any) -> nn.Module:
        if pool.round:
            return fit(trial, data, pool, seed, progress)
        key = replace(trial, strategy=Random(), coverage=0.0).to_json()
        if key not in first_networks:
            first_networks.clear()
            first_networks[key] = copy.deepcopy(fit(trial, data, pool, seed, progress))
        model = copy.deepcopy(first_networks[key])
        progress.see(pool)
        progress.remember(weights_of(model), pool)
        return model

    return shared


def main() -> None:
    """Run every strategy with every seed on every data set, and store each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["mnist-5k", "quick-draw-sample"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--annotations", type=int, default=150)
    parser.add_argument("--first", type=int, default=30)
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--warm-steps", type=int, default=150)
    parser.add_argument("--unlabelled-batch", type=int, default=64)
    parser.add_argument("--store", type=Path, default=Path("selection.db"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = dict(RECIPES["best"]) | {
        "first": options.first,
        "annotations": options.annotations,
        "batch": options.batch,
        "coverage": 0.0,
    }
    recipe["training"] = replace(
        recipe["training"],
        steps=options.steps,
        warm_steps=options.warm_steps,
        unlabelled_batch=options.unlabelled_batch,
        augment="shapes",
    )
    trials = [
        Trial(dataset=dataset, seed=seed, **recipe | _among_all(ARMS[arm]))
        for dataset in options.datasets
        for seed in options.seeds
        for arm in options.arms
    ]
    Trial._fit = share_first_network(Trial._fit)  # type: ignore[method-assign]
    with Store(options.store, write=True) as store:
        store.add_run({trial.id: trial.to_json() for trial in trials}, environment(trials))
        for trial in trials:
            past = store.records(trial.id, weights=True)
            if trial.finished(past):
                continue
            for record in trial.run(trial.data(), past):
                store.add(trial.id, record)
                accuracy = record.measurements["accuracy"]
                print(f"{trial.dataset} {trial.label} {trial.coverage} {accuracy:.2%}", flush=True)


def _among_all(changes: dict[str, Any]) -> dict[str, Any]:
    """Return what an arm changes, with strategies that consider all images, but for dfal."""
    strategy = changes["strategy"]
    return changes | {
        "strategy": strategy if strategy == named("dfal") else with_candidates(strategy, None)
    }


if __name__ == "__main__":
    main()
