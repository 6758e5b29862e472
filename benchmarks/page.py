"""Does the page lose anything of the method? An answering machine labels MNIST through the HTTP
API; `dfal run` does the same.

    python benchmarks/page.py [--annotations 300] [--seeds 3] [--epochs 30]
    python benchmarks/page.py --recipe best [--annotations 100] [--seeds 5] [--processes 2]

The pool of mnist-5k lies in a folder as 4,000 PNG files. The machine asks for a batch, answers it,
and waits; without a hold-out, so that each answer teaches. Both networks are measured on the 1,000
test images. Training, batch and candidates are the same; the first labels and everything random are
not. By recipe:

paper: LeNet5 on labels alone, selected by DFAL. The machine waits for the network that has learnt
    its answers.
best: what `dfal label` does where no pretrained network is installed. Labels spread to similar
    pixels until a network that learns from every image predicts them better in cross-validation;
    the machine waits until the learner has nothing more to do. `dfal run` trains such a network in
    each round, from typical first images on, selected by cluster-margin.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dfal
from dfal import models
from dfal.data.datasets import Dataset, load
from dfal.experiments.trial import Trial
from dfal.labelling.settings import UNLABELLED_TRAINING
from dfal.nn.training import Training
from dfal.strategies import ClusterMargin
from measure import taken_on, write
from photograph_data import Photographs, prepare
from simulated_person import CLIENT, Labelling

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sides:
    """The same learning, by the page and by `dfal run`.

    Attributes:
        options: of `dfal label`.
        trial: settings of `dfal.Trial`; `first` and `batch` of them are those of the page too.
        is_rested: whether the machine waits until the learner rests, not just for a network.
        out: name of the file of figures.
    """

    options: list[str]
    trial: dict[str, Any]
    is_rested: bool
    out: str


def sides(recipe: str, epochs: int) -> Sides:
    """Return what is compared in a recipe."""
    if recipe == "best":
        return Sides(
            options=["--backbone", "none"],
            trial={
                "training": UNLABELLED_TRAINING,
                "strategy": ClusterMargin(),
                "first_by": "typical",
                "first": 20,
                "batch": 20,
            },
            is_rested=True,
            out="page-best.json",
        )
    alone = ["--backbone", "none", "--labels-only", "--schedule", "constant"]
    return Sides(
        options=[*alone, "--epochs", str(epochs)],
        trial={"training": Training(epochs=epochs), "first": 10, "batch": 10},
        is_rested=False,
        out="page.json",
    )


@dataclass(frozen=True)
class Reached:
    """The model after some answers through the page.

    Attributes:
        accuracy: on the test images.
        learner: what the page learnt from, as `/api/progress` says.
        seconds: from the last answer until the model was there, and nothing more was to be done if
            that was waited for.
    """

    accuracy: float
    learner: str
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--recipe", choices=["paper", "best"], default="paper")
    arguments.add_argument("--annotations", type=int, help="300; 100 with the recipe best")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=30, help="of the recipe paper")
    arguments.add_argument("--processes", type=int, default=1, help="seeds at a time")
    options = arguments.parse_args()
    compared = sides(options.recipe, options.epochs)
    annotations = options.annotations or (100 if options.recipe == "best" else 300)
    labels = [*range(compared.trial["first"], annotations + 1, compared.trial["batch"])]
    data = load("mnist-5k")
    figures: dict[str, Any] = {"labels": labels, "dfal run": [], "the page": [], "learner": []}
    figures |= {"seconds to learn": []}
    out = HERE / "benchmarks" / "results" / compared.out
    with (
        tempfile.TemporaryDirectory() as work,
        ProcessPoolExecutor(options.processes, get_context("spawn")) as workers,
    ):
        photographs = prepare("mnist-5k", 0, len(data.test_images), Path(work))
        of_a_seed = partial(both_sides, photographs, labels, compared, Path(work))
        for seed, (run, reached) in enumerate(workers.map(of_a_seed, range(options.seeds))):
            page = [each.accuracy for each in reached]
            figures["dfal run"].append(run)
            figures["the page"].append(page)
            figures["learner"].append([each.learner for each in reached])
            figures["seconds to learn"].append([each.seconds for each in reached])
            print(f"seed {seed}: dfal run {run[-1]:.1%}, the page {page[-1]:.1%}", flush=True)
            write(out, taken_on(["torch"]) | {"processes": options.processes} | figures)
    for name in ("dfal run", "the page"):
        values = 100 * np.array(figures[name])
        for count, mean, sd in zip(labels, values.mean(0), values.std(0, ddof=1), strict=True):
            print(f"{name}: {mean:.1f} ± {sd:.1f} % at {count} annotations")


def both_sides(
    photographs: Photographs, labels: list[int], compared: Sides, work: Path, seed: int
) -> tuple[list[float], list[Reached]]:
    """Return the accuracies of `dfal run` and what the page reached, at each number of labels."""
    torch.set_num_threads(1)
    data = load("mnist-5k")
    trial = Trial(annotations=labels[-1], seed=seed, **compared.trial)
    run = [round(record.measurements["accuracy"], 4) for record in trial.run(data)]
    folder = work / f"store-{seed}"
    return run, [*through_the_page(data, photographs, labels, seed, compared, folder)]


def through_the_page(
    data: Dataset,
    photographs: Photographs,
    labels: list[int],
    seed: int,
    compared: Sides,
    folder: Path,
) -> Iterator[Reached]:
    """Yield the model at each number of labels, as it is saved next to the store.

    Args:
        data: with the test images.
        photographs: the folder that is labelled, and the classes of its files.
        labels: numbers of answers, ascending.
        seed: of the session.
        compared: how it learns.
        folder: for the store; what is there is removed.
    """
    first, batch = str(compared.trial["first"]), str(compared.trial["batch"])
    command = ["--holdout", "0", "--seed", str(seed), "--first", first, "--batch", batch]
    command += compared.options
    test = data.test_images.take(torch.arange(len(data.test_images)))
    with Labelling(photographs, folder, command, HERE) as labelling:
        labelling.await_features()
        answers = 0
        for count in labels:
            before = labelling.progress()["model"]
            _answer(labelling, photographs, count - answers)
            answers, answered = count, time.monotonic()
            saved = labelling.keep_model(count, rest=compared.is_rested)
            labelling.await_ranking(before)
            now, seconds = labelling.progress(), time.monotonic() - answered
            if saved is None or saved.annotations != count or now["annotations"] != count:
                raise RuntimeError(f"after {count} answers the page has {saved}, {now}")
            right = dfal.predict(models.load(saved.path).network, test).argmax(1)
            accuracy = float((right == data.test_labels).float().mean())
            yield Reached(round(accuracy, 4), now["learner"]["backbone"], round(seconds, 1))


def _answer(labelling: Labelling, photographs: Photographs, count: int) -> None:
    """Give so many images their true class, all asked for at once."""
    while count:
        for question in labelling.post("ask", **CLIENT, count=count)["questions"]:
            label = photographs.classes.index(photographs.truth[question["path"]])
            told = {"question": question["id"], "image": question["image"], "label": label}
            labelling.post("tell", person=CLIENT["person"], **told)
            count -= 1


if __name__ == "__main__":
    main()
