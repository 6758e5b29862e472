"""The paper's published numbers, and its Figure 2 as read from the authors' later version."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

DATASETS = ("mnist", "shoe-bag", "quick-draw")
MODELS = ("lenet5", "vgg8")
FULL = "full-training-set"
ODDITIES = (
    "The paper's curves are running maxima of single measurements; its released code has no guard"
    " for log 0 in entropy and BALD, so that images with a probability rounded to 0 come first, and"
    " its EGL, CEAL and CORE-SET are not as published."
)
"""What every comparison with the paper must say."""


def dataset_of(name: str) -> str | None:
    """Return the paper's data set that this one is, or is a part or sample of; None for others."""
    return next(
        (theirs for theirs in DATASETS if name == theirs or name.startswith(f"{theirs}-")), None
    )


def is_part(name: str) -> bool:
    """Return whether a data set is only a part or sample of the paper's."""
    return dataset_of(name) not in {None, name}


def caution(dataset: str) -> str:
    """Return the sentence that the paper's numbers are of other data; "" if they are not."""
    if not is_part(dataset):
        return ""
    theirs = dataset_of(dataset)
    return (
        f" {dataset} is not the paper's {theirs}: its numbers are for orientation, and nothing is"
        " tested against them."
    )


@cache
def _rows(file: str) -> tuple[dict[str, str], ...]:
    with (files("dfal.reproduce") / "numbers" / f"{file}.csv").open(encoding="utf-8") as lines:
        return tuple(csv.DictReader(lines))


def _of(file: str, dataset: str, model: str) -> Iterator[dict[str, str]]:
    for row in _rows(file):
        if (row["dataset"], row["model"]) == (dataset_of(dataset), model):
            yield row


def _fraction(percent: str) -> float:
    """Return a cell of Table 1 as a fraction; some cells hold fractions already."""
    value = float(percent)
    return value if value <= 1 else value / 100


def table1(dataset: str, model: str) -> dict[str, dict[str, float]]:
    """Return strategy → annotations (or "all") → test accuracy as a fraction."""
    accuracies: dict[str, dict[str, float]] = {}
    for row in _of("table1", dataset, model):
        accuracy = _fraction(row["accuracy_percent"])
        accuracies.setdefault(row["strategy"], {})[row["annotations"]] = accuracy
    return accuracies


@dataclass(frozen=True)
class Table2Row:
    """Annotations and labelled data to a target, as text; "≥" where it was not reached."""

    annotations: str
    labelled_data: str


def table2(dataset: str, model: str) -> dict[str, Table2Row]:
    """Return strategy → what it needs for the full training set's accuracy − 0.5 points."""
    return {
        row["strategy"]: Table2Row(
            row["annotations"].replace(">=", "≥ "), row["labelled_data"].replace(">=", "≥ ")
        )
        for row in _of("table2", dataset, model)
    }


def table3() -> dict[str, float]:
    """Return our name of a strategy → seconds to select 10 of 800 MNIST images with 100 labels."""
    names = {
        "dfal": "dfal",
        "core-set without regularisation": "core-set",
        "core-set with regularisation": "core-set-robust",
    }
    return {names[row["strategy"]]: float(row["seconds"]) for row in _rows("table3")}


@dataclass(frozen=True, order=True)
class Direction:
    """The network that selected the images, and the network that is trained on them."""

    selected_by: str
    trained_on: str

    def __str__(self) -> str:
        return f"{self.selected_by} → {self.trained_on}"


def table4(dataset: str) -> dict[tuple[str, Direction], float]:
    """Return (strategy, direction) → test accuracy at 1000 annotations as a fraction."""
    return {
        (row["strategy"], Direction(row["selected_by"], row["trained_on"])): (
            float(row["accuracy_percent"]) / 100
        )
        for row in _rows("table4")
        if row["dataset"] == dataset_of(dataset)
    }


Points = tuple[list[float], list[float]]
"""Annotations, and accuracies as fractions."""


def curves(dataset: str, model: str) -> dict[str, Points]:
    """Return strategy → its points in Figure 2; the full training set is among the strategies."""
    points: dict[str, Points] = {}
    for row in _of("curves", dataset, model):
        x, y = points.setdefault(row["strategy"], ([], []))
        x.append(float(row["annotations"]))
        y.append(float(row["accuracy_percent"]) / 100)
    return points


def figure3() -> dict[str, Points]:
    """Return the points of Figure 3 (Shoe-Bag, VGG8) by the paper's name of the line."""
    points: dict[str, Points] = {}
    for row in _rows("figure3"):
        x, y = points.setdefault(row["series"].replace("_", " "), ([], []))
        x.append(float(row["annotations"]))
        y.append(float(row["accuracy"]))
    return points
