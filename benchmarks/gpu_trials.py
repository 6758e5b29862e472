"""The parts of `gpu.py` that measure whole trials, and what all of its parts share."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

import dfal
from dfal.data.datasets import Dataset
from dfal.experiments.recipes import RECIPES
from dfal.experiments.runner import run
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.nn.together import InThisProcess, Trainer, training_together
from dfal.nn.training import fit
from dfal.reproduce.presets import PAPER
from dfal.seeding import generator
from dfal.strategies import name_of
from measure import Measured, interleaved


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        dataset: its name.
        device: on which.
        images: that are attacked.
        steps: of DeepFool, at most.
        repeats: rounds in each of which every side is timed once.
        labels: numbers of labels with which networks are trained.
        epochs: of a training.
        best_steps: of a training by the recipe best.
        stack: networks that are trained in step.
        alone: networks that are trained one by one beside them.
        candidates: numbers of images among which DFAL with VGG8 selects.
        strategies, seeds, annotations: of the study.
        study_seconds: the time for it.
        test_seconds: the time for the tests marked gpu.
    """

    dataset: str
    device: str = "cuda"
    images: int = 512
    steps: int = 50
    repeats: int = 3
    labels: tuple[int, int] = (100, 1000)
    epochs: int = 100
    best_steps: int = 200
    stack: int = 35
    alone: int = 2
    candidates: tuple[int, ...] = (300, 10_000)
    strategies: tuple[str, ...] = (
        *("dfal", "bald", "ceal", "core-set", "egl", "uncertainty", "random"),
    )
    seeds: int = 5
    annotations: int = 1000
    study_seconds: float = 100
    test_seconds: float = 100


DRY = Sizes(
    *("mnist-5k", "cpu", 2, 1, 1, (10, 12), 1, 2, 2, 2, (3,)),
    strategies=("dfal", "random"),
    seeds=1,
    annotations=20,
    study_seconds=100,
    test_seconds=200,
)

Figures = dict[str, Any]
Past = dict[str, list[Record]]
"""The finished rounds of each strategy, of all seeds."""
Part = Callable[[Sizes, Dataset, Figures], Iterator[None]]
"""Adds to the figures of its part, and yields whenever they are worth writing."""


def synchronised(function: Callable[[], Any], device: str) -> Any:
    """Call a function, and wait until the GPU has done all of it."""
    result = function()
    if device != "cpu":
        torch.cuda.synchronize()
    return result


def timed(sides: dict[str, Callable[[], Any]], sizes: Sizes) -> dict[str, Measured[Any]]:
    """Time sides in turns, after a first call of each, which is slow on a GPU."""
    waiting = {
        name: partial(synchronised, function, sizes.device) for name, function in sides.items()
    }
    for function in waiting.values():
        function()
    return interleaved(waiting, sizes.repeats)


def some_pool(data: Dataset, labels: int) -> dfal.Pool:
    order = torch.randperm(len(data.images), generator=generator(0, 0, "first"))
    return dfal.Pool.new(data.images, {int(i): int(data.labels[i]) for i in order[:labels]})


def study(sizes: Sizes, data: Dataset, figures: Figures, executor: str = "local") -> Iterator[None]:
    trial = replace(
        PAPER.trial,
        dataset=sizes.dataset,
        device=sizes.device,
        annotations=sizes.annotations,
        training=dfal.Training(epochs=sizes.epochs),
    )
    preset = replace(PAPER, trial=trial, seeds=sizes.seeds, strategies=sizes.strategies)
    trials = preset.trials()
    in_step = executor != "local"  # most of its processes wait for the one that trains
    processes = min(
        (3 if in_step else 1) * (os.cpu_count() or 1), len(trials), 35 if in_step else 14
    )
    past: Past = {}
    start = perf_counter()
    figures |= {"trials": len(trials), "processes": processes}
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder) / "study.db", write=True) as store,
    ):
        rounds = run(trials, store, processes, executor)
        with contextlib.closing(rounds):
            for done, record in rounds:
                past.setdefault(name_of(done.strategy), []).append(record)
                seconds = perf_counter() - start
                if seconds > sizes.study_seconds:
                    break
                if sum(map(len, past.values())) % 20 == 0:
                    figures |= study_so_far(past, trials, seconds, processes)
                    yield
    figures |= study_so_far(past, trials, perf_counter() - start, processes)
    yield


def study_in_step(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    yield from study(sizes, data, figures, "together")


def study_so_far(past: Past, trials: list[Trial], seconds: float, processes: int) -> Figures:
    """Rounds done, and how long the whole study would take on as many processes."""
    whole = {name: seconds_of_a_trial(records, trials[0]) for name, records in past.items()}
    of_trials = [each for each in whole.values() if each is not None]
    all_seconds = sum(of_trials) / len(of_trials) * len(trials) / processes if of_trials else None
    return {
        "seconds": round(seconds, 1),
        "rounds": {name: len(records) for name, records in past.items()},
        "annotations, accuracy, seconds": {
            name: [
                [
                    int(record.measurements["annotations"]),
                    record.measurements["accuracy"],
                    round(sum(record.costs.values()), 3),
                ]
                for record in records
            ]
            for name, records in past.items()
        },
        "estimated_seconds_of_a_trial": {
            name: each and round(each, 1) for name, each in whole.items()
        },
        "estimated_hours": all_seconds and round(all_seconds / 3600, 2),
    }


def seconds_of_a_trial(records: list[Record], trial: Trial) -> float | None:
    """How long a whole trial takes, where the seconds of a round grow linearly with its labels.

    None where no round has a quarter of the labels: the first rounds of a process, in which a GPU
    is made ready, would decide.
    """
    labels = np.array([record.measurements["annotations"] for record in records])
    seconds = np.array([sum(record.costs.values()) for record in records])
    if 4 * labels.max() < trial.annotations or len(set(labels.tolist())) < 2:
        return None
    slope, offset = np.polyfit(labels, seconds, 1)
    rounds = np.arange(trial.first, trial.annotations + 1, trial.batch)
    return float((offset + slope * rounds).clip(min=0).sum())


def networks_in_step(sizes: Sizes, data: Dataset, labels: int) -> Figures:
    """Train networks one by one and in step, each with its own hold-out, if any."""
    rows: Figures = {}
    for held_out in (0.0, 0.2):
        settings = dfal.Training(epochs=sizes.epochs, holdout=held_out)
        for side, row in each_way(sizes, data, labels, settings).items():
            rows[f"{side}, hold-out {held_out}"] = row
    return rows


def best_in_step(sizes: Sizes, data: Dataset) -> Figures:
    """Train networks by some steps of the recipe best, one by one and in step."""
    training = RECIPES["best"]["training"]
    settings = replace(training, augment="shapes", steps=sizes.best_steps)
    return each_way(sizes, data, sizes.labels[0], settings)


def each_way(sizes: Sizes, data: Dataset, labels: int, settings: dfal.Training) -> Figures:
    """Train networks with the same settings one by one, each also as a graph, and more in step."""
    pool = some_pool(data, labels)
    labelled = pool.labelled_data(sizes.device)
    test = data.test_images.take(torch.arange(len(data.test_labels))).to(sizes.device)
    rows: Figures = {}
    trainers: dict[str, tuple[int, Trainer]] = {
        "one by one": (sizes.alone, lambda jobs: None),
        "one by one, as a graph": (sizes.alone, InThisProcess(1)),
        "in step": (sizes.stack, InThisProcess(sizes.stack)),
    }
    for side, (count, trainer) in trainers.items():
        training = replace(settings, ensemble=count)
        stacked: list[bool] = []

        def train(jobs: Any, trainer: Any = trainer, stacked: Any = stacked) -> Any:
            trained = trainer(jobs)
            stacked.append(trained is not None)
            return trained

        with training_together(train):
            start = perf_counter()
            ensemble = synchronised(
                partial(fit, dfal.lenet5, labelled, training, 0, unlabelled=pool.images),
                sizes.device,
            )
            seconds = perf_counter() - start
        accuracies = [
            float((dfal.predict(member, test).argmax(1).cpu() == data.test_labels).double().mean())
            for member in ensemble.members
        ]
        rows[side] = {
            "networks": count,
            "seconds": round(seconds, 3),
            "seconds_of_each": round(seconds / count, 4),
            "accuracy": round(float(np.mean(accuracies)), 4),
            "standard_deviation": round(float(np.std(accuracies, ddof=1)), 4),
        }
        if side != "one by one":
            rows[side] |= {"stacked": all(stacked)}
    return rows


def vgg8(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    seconds, attack = {}, dfal.DeepFool(max_steps=sizes.steps)
    for labels in sizes.labels:
        pool = some_pool(data, labels)
        labelled = pool.labelled_data(sizes.device)
        twice = labelled.rows(torch.arange(labels).repeat(2))  # a twin for each image
        settings = dfal.Training(epochs=sizes.epochs)
        start = perf_counter()
        model = synchronised(partial(fit, dfal.vgg8, twice, settings, 0), sizes.device)
        rows = {"fit": round(perf_counter() - start, 3)}
        for candidates in sizes.candidates:
            strategy = dfal.DFAL(attack, candidates=candidates)
            start = perf_counter()
            strategy(model, pool, min(10, candidates), generator(0, 1, "select"))
            rows[f"select of {candidates}"] = round(perf_counter() - start, 3)
        seconds[labels] = rows["fit"] + rows[f"select of {sizes.candidates[0]}"]
        figures[f"seconds with {labels} labels and as many twins"] = rows
        yield
    (few, many), (short, long) = seconds.keys(), seconds.values()
    rounds = np.arange(10, 1001, 10)
    whole = (short + (long - short) / (many - few) * (rounds - few)).clip(min=0).sum()
    figures["estimated_minutes_of_a_trial_to_1000_labels"] = round(float(whole) / 60, 1)
    yield
