"""Draw the figure of README.md from results/mnist-lenet5.csv: docs/pictures/mnist-lenet5.svg.

    python docs/readme_figure.py

Left, test accuracy against labels: means over five seeds with 95 % t intervals. Right, the labels
with which a strategy's mean accuracy first reaches that of random sampling with 1,000 labels.
"""

import csv
import io
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "mnist-lenet5.csv"
FIGURE = ROOT / "docs" / "pictures" / "mnist-lenet5.svg"

LABELS = 1000
"""Labels of each trial in the figure."""
NAMES = {
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
CURVES = {"dfal": "#0072b2", "uncertainty": "#d55e00", "core-set": "#009e73", "random": "#7f7f7f"}
"""Of the strategies in the left panel, with their colours."""
COLOURS = {
    "#1c1f23": ("ink", "#e8eaed"),
    "#e3e6ea": ("line", "#343a42"),
    "#fffffe": ("paper", "#14181d"),
    "#0072b2": ("dfal", "#5aaeea"),
    "#d55e00": ("entropy", "#ff8a3d"),
    "#009e73": ("core-set", "#3fd0a4"),
    "#7f7f7f": ("random", "#a9adb3"),
}
"""Of the light figure, with a name and the colour that stands for it in the dark one."""


def accuracies() -> dict[str, NDArray[np.float64]]:
    """Return test accuracies in %, seeds × budgets, by strategy; the budgets are 10, 20, …, 1000.

    Raises:
        ValueError: where seeds of one strategy have different budgets.
    """
    curves: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with RESULTS.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["study"].startswith(f"mnist, lenet5, annotations {LABELS}, "):
                seeds = curves[row["strategy"]]
                seeds[int(row["seed"])][int(row["annotations"])] = 100 * float(row["accuracy"])
    return {
        name: np.array([list(curve.values()) for curve in seeds.values()])
        for name, seeds in curves.items()
        if name in NAMES
    }


def labels_to_reach(curve: NDArray[np.float64], target: float) -> int:
    """Return the labels at which a curve, a point every ten labels, first reaches a target."""
    return int(10 * (1 + np.argmax(curve >= target)))


def _curves(axes: Axes, seeds: dict[str, NDArray[np.float64]]) -> None:
    for name, colour in CURVES.items():
        curves = seeds[name]
        mean, x = curves.mean(0), np.arange(10, LABELS + 1, 10)
        half = t.ppf(0.975, len(curves) - 1) * curves.std(0, ddof=1) / len(curves) ** 0.5
        axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=2, label=NAMES[name])
    axes.set(xlim=(0, LABELS), ylim=(70, 100), xlabel="labels", ylabel="test accuracy, %")
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("MNIST, LeNet5: mean of five seeds, 95 % CI", fontsize=10.5, loc="left")


def _bars(axes: Axes, seeds: dict[str, NDArray[np.float64]]) -> None:
    target = seeds["random"].mean(0)[-1]
    labels = {name: labels_to_reach(seeds[name].mean(0), target) for name in NAMES}
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
    file, seeds = io.StringIO(), accuracies()
    with rc_context({**style, **ink, **paper}):
        figure = Figure(figsize=(9.2, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, seeds)
        _bars(right, seeds)
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
