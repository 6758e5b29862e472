"""Compare forms of DFAL that avoid near-copies in a batch, by whole trials.

    python benchmarks/batch_dfal.py --seeds 10

Each form sees the same candidates and distances as DFAL, and the same networks for the same labels.
Twins are off, as they do not affect the selection. Everything goes into a store, from which a
stopped run resumes. The best form is in the package, as `BatchDFAL`; the others are here.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import normalize

import dfal
from dfal.experiments import runner
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.network_input import device_of
from dfal.processes import available_cores
from dfal.stats.significance import half_width, holm, paired_p
from dfal.strategies.badge import k_means_plus_plus
from dfal.strategies.base import sample_candidates
from dfal.strategies.batch_dfal import round_robin
from dfal.strategies.selection import farthest_first
from measure import taken_on, write


@dataclass(frozen=True)
class Form:
    """Query k of the `factor` · k candidates nearest to the boundary.

    spread: farthest first in the network's features, from the labelled images and the nearest on.
    facets: the nearest of each piece of boundary in turn; a piece is a pair of classes, of the
    image and of its twin.
    directions: k-means++ seeds among r / ‖r‖², which is long for near images and points to where
    their boundary lies.
    """

    form: str
    factor: int = 5
    candidates: int | None = 300

    def __call__(
        self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        candidates = sample_candidates(pool, self.candidates, k, rng)
        images = pool.images.take(candidates, device_of(model))
        perturbation = dfal.DeepFool()(model, images)
        near = perturbation.distance.sort(stable=True).indices[: self.factor * k]
        distance, images = perturbation.distance[near], images[near]
        twins = perturbation.images[near]
        k = min(k, len(candidates))
        if self.form == "directions":
            near_is_long = (1 / distance.clamp(min=1e-6)).unsqueeze(1)
            order, _ = k_means_plus_plus(
                near_is_long, normalize((twins - images).flatten(1)), k, rng
            )
        elif self.form == "facets":
            own, other = (dfal.predict(model, batch).argmax(1) for batch in (images, twins))
            order = round_robin(own * 1000 + other, k)
        else:
            features = dfal.features(model, images)
            centres = torch.cat(
                [dfal.features(model, pool.images.take(pool.labelled)), features[:1]]
            )
            rest, _ = farthest_first(features[1:], centres, k - 1)
            order = torch.cat([torch.zeros(1, dtype=torch.int64), rest + 1])
        return dfal.Query(candidates[near[order]], distance[order])


PLAIN = dfal.DFAL(twins=False)
FORMS: dict[str, dfal.Strategy] = {
    "DFAL": PLAIN,
    "clusters (BatchDFAL)": dfal.BatchDFAL(twins=False),
    "spread": Form("spread"),
    "facets": Form("facets"),
    "directions": Form("directions"),
    "Stochastic(DFAL), β = 1": dfal.Stochastic(PLAIN),
    "Stochastic(DFAL), β = 4": dfal.Stochastic(PLAIN, beta=4),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare forms of DFAL that are aware of their batch."
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--annotations", type=int, default=300)
    parser.add_argument(
        "--batch",
        type=int,
        default=30,
        help="images queried in a round, and labelled before the first",
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--store", type=Path, default=Path("runs/batch-dfal.db"))
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "batch_dfal.json",
        help="JSON file",
    )
    options = parser.parse_args()
    training = dfal.Training(epochs=options.epochs)
    common = {
        "annotations": options.annotations,
        "batch": options.batch,
        "first": options.batch,
        "training": training,
    }
    trials = {
        (name, seed): Trial(strategy=form, seed=seed, **common)
        for seed in range(options.seeds)
        for name, form in FORMS.items()
    }
    with Store(options.store, write=True) as store:
        for trial, record in runner.run(list(trials.values()), store, options.processes):
            if record.last:
                print(
                    trial.seed,
                    repr(trial.strategy)[:60],
                    record.measurements["accuracy"],
                    flush=True,
                )
        curves = {
            name: np.array([accuracies(store, trials[name, seed]) for seed in range(options.seeds)])
            for name in FORMS
        }
    areas = {
        name: np.trapezoid(curve, axis=1) / (curve.shape[1] - 1) for name, curve in curves.items()
    }
    forms = [name for name in FORMS if name != "DFAL"]
    gains = {name: areas[name] - areas["DFAL"] for name in forms}
    last = {name: curves[name][:, -1] - curves["DFAL"][:, -1] for name in forms}
    p = dict(zip(forms, holm([paired_p(gains[name]) for name in forms]), strict=True))
    p_last = dict(zip(forms, holm([paired_p(last[name]) for name in forms]), strict=True))
    figures = {
        name: (
            {"area": float(areas[name].mean()), "last": float(curves[name][:, -1].mean())}
            | (
                {}
                if name == "DFAL"
                else {
                    "area_gain": float(gains[name].mean()),
                    "area_half_width": half_width(gains[name]),
                    "area_p": p[name],
                    "last_gain": float(last[name].mean()),
                    "last_half_width": half_width(last[name]),
                    "last_p": p_last[name],
                }
            )
        )
        for name in FORMS
    }
    facts = taken_on(("dfal", "torch", "numpy")) | {
        "threads": 1,
        "seeds": options.seeds,
        "epochs": options.epochs,
    }
    write(
        options.out,
        facts | {"annotations": options.annotations, "batch": options.batch, "forms": figures},
    )
    show(figures)
    return 0


def accuracies(store: Store, trial: Trial) -> list[float]:
    return [record.measurements["accuracy"] for record in store.records(trial.id, twins=False)]


def show(figures: dict[str, dict[str, float]]) -> None:
    table = Table(
        title=(
            "Differences from DFAL in points, mean and 95 % CI over paired seeds; p with"
            " Holm's correction"
        )
    )
    for heading in ("", "AULC", "difference", "p", "last accuracy", "difference", "p"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, row in figures.items():
        cells = []
        for what in ("area", "last"):
            cells.append(f"{100 * row[what]:.2f}")
            if f"{what}_gain" in row:
                cells.append(
                    f"{100 * row[f'{what}_gain']:+.2f} ± {100 * row[f'{what}_half_width']:.2f}"
                )
                cells.append(f"{row[f'{what}_p']:.3f}")
            else:
                cells += ["", ""]
        table.add_row(name, *cells)
    Console(width=None if sys.stdout.isatty() else 128).print(table)


if __name__ == "__main__":
    sys.exit(main())
