"""Draw the figure of README.md from results/: docs/pictures/mnist-lenet5.svg.

    python docs/readme_figure.py

Left, test accuracy against labels: means over five seeds with 95 % t intervals, and the points of
the paper's Figure 2. Right, the labels with which a mean accuracy first reaches that of random
sampling with 1,000 labels. Where nothing else is said, networks are trained as in the paper.
"""

import csv
import io
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t

from dfal.reproduce import paper
from dfal.stats.significance import annotations_to_target

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "mnist-lenet5.csv"
LEARNING = ROOT / "results" / "learning-mnist.csv"
FIGURE = ROOT / "docs" / "pictures" / "mnist-lenet5.svg"

LABELS = 1000
"""Of each trial that is trained as in the paper."""
TICKS = 10, 20, 50, 100, 200, 500, 1000
BEST = "best"
"""Of the curve whose networks learn from the images without a label, too, by cluster-margin."""
NAMES = {
    BEST: "Learning from every image",
    "dfal": "DFAL",
    "dfal-no-twins": "DFAL without twins",
    "uncertainty": "Entropy",
    "ceal": "CEAL",
    "egl": "EGL",
    "bald": "BALD",
    "core-set": "CORE-SET",
    "random": "Random sampling",
}
"""Of the strategies in the right panel, as the axis calls them."""
CURVES = {BEST: "#009e73", "dfal": "#0072b2", "random": "#7f7f7f"}
"""Of the left panel, with their colours."""
COLOURS = {
    "#1c1f23": ("ink", "#e8eaed"),
    "#e3e6ea": ("line", "#343a42"),
    "#fffffe": ("paper", "#14181d"),
    "#0072b2": ("dfal", "#5aaeea"),
    "#009e73": ("best", "#3fd0a4"),
    "#7f7f7f": ("random", "#a9adb3"),
}
"""Of the light figure, with a name and the colour that stands for it in the dark one."""


@dataclass(frozen=True)
class Curve:
    """Test accuracies of one way to select and to learn.

    Attributes:
        labels: (b,) ascending.
        seeds: (s, b) accuracies in %.
    """

    labels: NDArray[np.int64]
    seeds: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Return the mean over seeds."""
        mean: NDArray[np.float64] = self.seeds.mean(0)
        return mean

    def labels_to_reach(self, target: float) -> int:
        """Return the labels at which the mean first reaches a target."""
        return int(annotations_to_target(self.labels, self.seeds, target).annotations)


def curves() -> dict[str, Curve]:
    """Return the curves of the figure by strategy, BEST among them.

    Raises:
        ValueError: where seeds of one strategy have different budgets.
    """
    found = _read(RESULTS, f"mnist, lenet5, annotations {LABELS}, .*")
    found[BEST] = _read(LEARNING, "mnist, lenet5, recipe best")["cluster-margin"]
    return {name: found[name] for name in NAMES}


def _read(path: Path, study: str) -> dict[str, Curve]:
    """Return the curve of each strategy in the studies whose titles match a pattern."""
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if re.fullmatch(study, row["study"]):
                seed = found[row["strategy"]][int(row["seed"])]
                seed[int(row["annotations"])] = 100 * float(row["accuracy"])
    return {
        name: Curve(
            np.array([*next(iter(seeds.values()))]),
            np.array([[*seed.values()] for seed in seeds.values()]),
        )
        for name, seeds in found.items()
    }


def _curves(axes: Axes, curves: dict[str, Curve]) -> None:
    for name, colour in CURVES.items():
        curve = curves[name]
        n = len(curve.seeds)
        half = t.ppf(0.975, n - 1) * curve.seeds.std(0, ddof=1) / n**0.5
        ends = curve.mean - half, curve.mean + half
        axes.fill_between(curve.labels, *ends, color=colour, alpha=0.2, linewidth=0)
        axes.plot(curve.labels, curve.mean, color=colour, linewidth=2, label=NAMES[name])
    labels, accuracies = paper.curves("mnist", "lenet5")["dfal"]
    style = {"color": CURVES["dfal"], "linestyle": "none", "marker": "o", "markersize": 3.5}
    axes.plot(labels, 100 * np.array(accuracies), label="DFAL, in the paper", **style)
    axes.set(xlim=(10, LABELS), ylim=(50, 100), xlabel="labels", ylabel="test accuracy, %")
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axes.minorticks_off()
    axes.legend(loc="lower right", frameon=False, fontsize=9, handlelength=1.2, borderpad=0)
    axes.set_title("MNIST, LeNet5: mean of five seeds, 95 % CI", fontsize=10.5, loc="left")


def _bars(axes: Axes, curves: dict[str, Curve]) -> None:
    target = curves["random"].mean[-1]
    labels = {name: curve.labels_to_reach(target) for name, curve in curves.items()}
    labels["random"] = LABELS
    order = sorted(labels, key=lambda name: -labels[name])
    colours = [CURVES.get(name, "#7f7f7f") for name in order]
    bars = axes.barh([NAMES[name] for name in order], [labels[n] for n in order], color=colours)
    axes.bar_label(bars, padding=4, color="#1c1f23")
    axes.set(xlim=(0, 1.15 * LABELS), xlabel="labels")
    axes.set_title(f"Labels to reach random sampling's {target:.1f} %", fontsize=10.5, loc="left")


def draw() -> str:
    """Return the figure as SVG, light or dark as the reader's screen is."""
    style = {"svg.fonttype": "none", "svg.hashsalt": "dfal", "font.family": "sans-serif"}
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#1c1f23"
    )
    paper = dict.fromkeys(("axes.facecolor", "savefig.facecolor"), "#fffffe")
    file, shown = io.StringIO(), curves()
    with rc_context({**style, **ink, **paper}):
        figure = Figure(figsize=(9.2, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, shown)
        _bars(right, shown)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x" if axes is right else "y", color="#e3e6ea")
            axes.set_axisbelow(True)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    light = ";".join(f"--{name}:{colour}" for colour, (name, _) in COLOURS.items())
    dark = ";".join(f"--{name}:{colour}" for name, colour in COLOURS.values())
    for colour, (name, _) in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    sheet = f"<style>:root{{{light}}} @media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return text.replace("<defs>", sheet + "\n <defs>", 1)


if __name__ == "__main__":
    FIGURE.write_text("\n".join(line.rstrip() for line in draw().splitlines()) + "\n")
