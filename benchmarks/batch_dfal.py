"""Can DFAL be made aware of its batch, so that the nearest images are not near-copies of each other? Forms of it, side by side:

    python benchmarks/batch_dfal.py --seeds 10 --processes 2

Each form sees the same 300 candidates and the same distances as DFAL, and the same networks for the same labels. Twins are
off: they are one more setting, and the question is whom to ask. Everything goes into a store, from which a stopped run goes
on. The form that won is in the package; the others live here.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import nn

import dfal
from dfal import engine
from dfal.geometry import farthest_first
from dfal.networks import device_of
from dfal.store import Store
from dfal.strategies.badge import plus_plus
from dfal.strategies.candidates import draw, seed_from
from dfal.trial import Trial


@dataclass(frozen=True)
class Form:
    """DFAL with a second look at the `factor` · k nearest candidates.

    spread: farthest first in the network's features, from the labelled images on, beginning with the nearest.
    clusters: k-means of their features weighted by 1 / distance; the nearest of each cluster.
    facets: the nearest of each piece of boundary in turn; a piece is a pair of classes, of the image and of its twin.
    directions: k-means++ seeds among r / ‖r‖², which is long for near images and points where their boundary lies.
    """

    form: Literal["spread", "clusters", "facets", "directions"]
    factor: int = 5
    candidates: int | None = 300

    def __call__(self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        chosen = draw(pool, self.candidates, k, rng)
        images = pool.images.take(chosen, device_of(model))
        found = dfal.DeepFool()(model, images)
        near = found.distance.sort(stable=True).indices[: self.factor * k]
        distance, k = found.distance[near], min(k, len(chosen))
        if self.form == "directions":
            r = (found.images - images)[near].flatten(1)
            scale = torch.where(distance.isfinite(), 1 / distance.clamp(min=1e-6), 0)
            order, _ = plus_plus(scale.unsqueeze(1), dfal_unit(r), k, rng)
        elif self.form == "facets":
            own = dfal.predict(model, images[near]).argmax(1)
            other = dfal.predict(model, found.images[near]).argmax(1)
            order = in_turn(own * 1000 + other, k)
        else:
            features = dfal.features(model, images[near])
            if self.form == "spread":
                centres = torch.cat([dfal.features(model, pool.images.take(pool.labelled)), features[:1]])
                rest, _ = farthest_first(features[1:], centres, k - 1)
                order = torch.cat([torch.zeros(1, dtype=torch.int64), rest + 1])
            else:
                weights = (1 / distance.clamp(min=1e-6)).nan_to_num(posinf=0.0).numpy()
                cluster = KMeans(k, n_init=1, random_state=seed_from(rng)).fit_predict(features.numpy(), sample_weight=weights)
                order = in_turn(torch.from_numpy(cluster), k)
        return dfal.Query(chosen[near[order]], distance[order])


def dfal_unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def in_turn(group: torch.Tensor, k: int) -> torch.Tensor:
    """The first of each group, then the second of each, …: k rows of those that are given nearest first."""
    seen: dict[int, int] = {}
    turn = []
    for one in group.tolist():
        seen[one] = seen.get(one, 0) + 1
        turn.append(seen[one])
    return torch.from_numpy(np.argsort(np.asarray(turn), kind="stable")[:k].copy())


PLAIN = dfal.DFAL(twins=False)
FORMS: dict[str, dfal.Strategy] = {
    "dfal-no-twins": PLAIN,
    "spread": Form("spread"),
    "clusters": Form("clusters"),
    "facets": Form("facets"),
    "directions": Form("directions"),
    "stochastic, power 1": dfal.Stochastic(PLAIN),
    "stochastic, power 4": dfal.Stochastic(PLAIN, beta=4),
    "random": dfal.Random(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare forms of DFAL that are aware of their batch.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--annotations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=20, help="images asked about in a round, and labelled before the first")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--processes", type=int, default=engine.cores())
    parser.add_argument("--store", type=Path, default=Path("runs/batch-dfal.db"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_dfal.json", help="JSON file")
    asked = parser.parse_args()
    trials = [
        Trial(
            strategy=form,
            annotations=asked.annotations,
            batch=asked.batch,
            first=asked.batch,
            seed=seed,
            training=dfal.Training(epochs=asked.epochs),
        )
        for seed in range(asked.seeds)
        for form in FORMS.values()
    ]
    with Store(asked.store, write=True) as store:
        for trial, record in engine.run(trials, store, asked.processes):
            if record.last:
                print(trial.seed, trial.strategy, record.measurements["accuracy"], flush=True)
    print(json.dumps(vars(asked), default=str))


if __name__ == "__main__":
    main()
