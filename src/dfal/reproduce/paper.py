"""The paper's numbers as published, and the curves of its Figure 2 as they were read out of the
authors' later version."""

import csv
from collections.abc import Iterator
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
"""To be said beside any comparison."""


def dataset_of(name: str) -> str | None:
    """The paper's data set that ours is, or is a part of or a stand-in for; None for any other."""
    return next((one for one in DATASETS if name == one or name.startswith(f"{one}-")), None)


def is_part(name: str) -> bool:
    """Whether these data are a part or a stand-in of the paper's, so that its numbers are of other
    data."""
    return dataset_of(name) not in {None, name}


def caution(dataset: str) -> str:
    """What has to be said beside the paper's numbers where they are of other data; they are not
    tested against, then."""
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
    """Some cells of Table 1 hold fractions, not percent."""
    value = float(percent)
    return value if value <= 1 else value / 100


def table1(dataset: str, model: str) -> dict[str, dict[str, float]]:
    """Strategy → annotations (or "all") → test accuracy as a fraction."""
    found: dict[str, dict[str, float]] = {}
    for row in _of("table1", dataset, model):
        found.setdefault(row["strategy"], {})[row["annotations"]] = _fraction(
            row["accuracy_percent"]
        )
    return found


def table2(dataset: str, model: str) -> dict[str, tuple[str, str]]:
    """Strategy → annotations and labelled data for the full set's accuracy − 0.5; "≥" where it was
    not reached."""
    return {
        row["strategy"]: (
            row["annotations"].replace(">=", "≥ "),
            row["labelled_data"].replace(">=", "≥ "),
        )
        for row in _of("table2", dataset, model)
    }


def table3() -> dict[str, float]:
    """Our name of a strategy → seconds to choose 10 of 800 MNIST images with 100 labelled."""
    names = {
        "dfal": "dfal",
        "core-set without regularisation": "core-set",
        "core-set with regularisation": "core-set-robust",
    }
    return {names[row["strategy"]]: float(row["seconds"]) for row in _rows("table3")}


def table4(dataset: str) -> dict[tuple[str, str, str], float]:
    """(strategy, selected by, trained on) → test accuracy at 1000 annotations as a fraction."""
    return {
        (row["strategy"], row["selected_by"], row["trained_on"]): (
            float(row["accuracy_percent"]) / 100
        )
        for row in _rows("table4")
        if row["dataset"] == dataset_of(dataset)
    }


Points = tuple[list[float], list[float]]
"""Annotations, and accuracies as fractions."""


def curves(dataset: str, model: str) -> dict[str, Points]:
    """Figure 2: strategy → its plotted points, and the accuracy of the full training set."""
    found: dict[str, Points] = {}
    for row in _of("curves", dataset, model):
        x, y = found.setdefault(row["strategy"], ([], []))
        x.append(float(row["annotations"]))
        y.append(float(row["accuracy_percent"]) / 100)
    return found


def figure3() -> dict[str, Points]:
    """Series of Figure 3 (Shoe-Bag, VGG8), by whose choice it is: LeNet5's, or the network's
    own."""
    found: dict[str, Points] = {}
    for row in _rows("figure3"):
        x, y = found.setdefault(row["series"].replace("_", " "), ([], []))
        x.append(float(row["annotations"]))
        y.append(float(row["accuracy"]))
    return found
