"""Charts of the paper with our results, and ranks over settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dfal.analysis.learning_curves import Curve, Study
from dfal.reporting.chart import (
    BAND,
    COLOURS,
    GREY,
    INK,
    PAPER,
    SCREEN,
    SOFT,
    Chart,
    Layout,
    add_legend,
    colours,
    drawing,
    styled,
    tick_budgets,
)
from dfal.reproduce.figure3 import Series
from dfal.reproduce.paper import Points
from dfal.stats.significance import Ranks, bootstrap

MIN_PAPER_AXIS = 500
"""Fewest annotations of ours for which the axis extends as far as the paper's, to 1000."""


def paper_curves(
    study: Study,
    published: dict[str, Points],
    full: Float64[np.ndarray, "s"] | None,
    layout: Layout = SCREEN,
) -> Chart:
    """Draw Figure 2: a panel for each strategy, with our curves and the paper's.

    Args:
        study: our trials.
        published: the paper's points of each strategy.
        full: our accuracies of the full training set.
        layout: how large it is drawn.
    """
    width = layout.panels
    shown = [curve.name for curve in study.curves if curve.name in published]
    rows = -(-len(study.curves) // width)
    ours = list(zip(study.curves, colours(study), strict=True))
    floor = _floor(study)
    measured = [curve.annotations for curve in study.curves]
    last = max(int(budgets[-1]) for budgets in measured)
    with drawing(0.6 + 2.5 * layout.scale * rows, layout) as figure:
        panels = figure.subplots(rows, width, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (curve, colour) in zip(panels, ours, strict=False):
            styled(axes)
            if study.baseline is not None and curve is not study.baseline:
                axes.plot(
                    study.baseline.annotations,
                    100 * study.baseline.mean,
                    color=GREY,
                    linewidth=1,
                    alpha=0.6,
                )
            _with_band(axes, curve, colour)
            axes.plot(
                curve.annotations,
                100 * curve.running_maximum.mean,
                color=colour,
                linewidth=0.8,
                linestyle=(0, (1, 1)),
            )
            if curve.name in published:
                x, y = published[curve.name]
                axes.plot(x, 100 * np.array(y), color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
            if full is not None:
                axes.axhline(100 * float(full.mean()), color=SOFT, linewidth=0.7, linestyle=":")
            axes.set_title(
                curve.name,
                fontsize=layout.small,
                color=colour,
                fontweight="bold",
                loc="left",
                pad=3,
            )
            axes.set_ylim(floor, 100.5)
            tick_budgets(axes, measured, most=4)
            if last < MIN_PAPER_AXIS:
                axes.set_xlim(right=1.03 * last)
        for axes in panels[len(ours) :]:
            axes.set_visible(False)
        figure.supxlabel("annotations", fontsize=layout.small, color=INK)
        figure.supylabel("test accuracy (%)", fontsize=layout.small, color=INK)
        dotted, dashed = (0, (1, 1)), (0, (4, 2))
        legend: dict[str, dict[str, Any]] = {
            "ours, with 95 % CI (bootstrap)": {"color": SOFT, "linewidth": 2},
            "ours, running maximum": {"color": SOFT, "linewidth": 0.8, "linestyle": dotted},
        }
        if shown:
            paper = {"color": INK, "linewidth": 1.1, "linestyle": dashed}
            legend["the paper’s (running maximum)"] = paper
        if study.baseline is not None and len(study.curves) > 1:
            legend["our random sampling"] = {"color": GREY, "linewidth": 1, "alpha": 0.6}
        if full is not None:
            legend["our full training set"] = {"color": SOFT, "linewidth": 0.7, "linestyle": ":"}
        lines = [Line2D([], [], label=label, **style) for label, style in legend.items()]
        columns = max(1, layout.panels - 1)
        figure.legend(
            handles=lines,
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            fontsize=layout.small,
        )
        reached = (f"{one.name} {100 * float(one.mean[-1]):.1f} %" for one in study.curves)
        return Chart(
            figure,
            "Figure 2: a panel for each strategy",
            "Our mean test accuracy against annotations"
            + (", over the paper’s curve" if shown else "")
            + f". At the last budget: {', '.join(reached)}.",
            "Thick: our mean over seeds with its 95 % CI by bootstrap (with five seeds such an"
            " interval contains the mean 83 times in 100); dotted: our running maximum"
            + (", which the paper plots; dashed: the paper’s curve." if shown else "."),
        )


def _floor(study: Study) -> float:
    """Return where the accuracy axis starts: below the curves from a tenth of the budgets on."""
    start = [100 * curve.mean[len(curve.mean) // 10] for curve in study.curves]
    return float(max(0, 10 * np.floor(min(start) / 10)))


def _with_band(axes: Axes, curve: Curve, colour: str) -> None:
    """Draw a mean curve with its 95 % bootstrap interval."""
    low, high = curve.interval
    axes.fill_between(
        curve.annotations, 100 * low, 100 * high, color=colour, alpha=BAND, linewidth=0
    )
    axes.plot(curve.annotations, 100 * curve.mean, color=colour, linewidth=1.6)


def transfers(
    lines: Sequence[Series], published: dict[str, Points], layout: Layout = SCREEN
) -> Chart:
    """Draw Figure 3: images selected by another network (dashed) or by the trained one itself.

    Args:
        lines: ours.
        published: the paper's points of each line, drawn as dots.
        layout: how large it is drawn.
    """
    with drawing(4.6 * layout.scale, layout) as figure:
        axes = styled(figure.add_subplot())
        names = sorted({line.name.split()[-1] for line in lines})
        for line in lines:
            colour = (
                GREY
                if line.name == "random"
                else COLOURS[names.index(line.name.split()[-1]) % len(COLOURS)]
            )
            style = "--" if " " in line.name else "-"
            low, high = bootstrap(line.accuracy)
            axes.fill_between(
                line.annotations, 100 * low, 100 * high, color=colour, alpha=BAND, linewidth=0
            )
            axes.plot(
                line.annotations,
                100 * line.accuracy.mean(0),
                style,
                color=colour,
                linewidth=2 * layout.scale,
                label=line.name,
            )
            if line.name in published:
                x, y = published[line.name]
                face = PAPER if " " in line.name else colour
                axes.plot(
                    x, 100 * np.array(y), "o", color=colour, markersize=3.5, markerfacecolor=face
                )
        least = min(line.annotations[0] for line in lines if " " in line.name)
        shown = [
            value
            for line in lines
            for value in 100 * line.accuracy.mean(0)[line.annotations >= least]
        ]
        axes.set_xlim(left=least)
        axes.set_ylim(bottom=min(shown) - 1)
        axes.set_xlabel("annotations")
        axes.set_ylabel("test accuracy (%)")
        budgets = [line.annotations[line.annotations >= least] for line in lines]
        tick_budgets(axes, budgets, layout.ticks)
        add_legend(figure, axes, "outside upper left", columns=layout.panels, layout=layout)
        reached = (f"{line.name} {100 * float(line.accuracy.mean(0)[-1]):.1f} %" for line in lines)
        dots = any(line.name in published for line in lines)
        return Chart(
            figure,
            "Figure 3: images selected by another network",
            f"Test accuracy against annotations. At the last budget: {', '.join(reached)}.",
            "Solid: images selected by the trained network itself; dashed: images selected by the"
            " other one. Bands: 95 % CI by bootstrap."
            + (" Dots: the paper’s points." if dots else ""),
        )


def ranking(names: Sequence[str], ranks: Ranks, layout: Layout = SCREEN) -> Chart:
    """Draw mean ranks on a line, the best on the left; bars join those that do not differ.

    Source:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    order = np.argsort(ranks.mean, kind="stable")
    mean, count = ranks.mean[order], len(names)
    half = -(-count // 2)
    joined = cliques(mean, ranks.critical)
    top = 0.55 + 0.22 * len(joined)
    # Names stand beside the axis, which has what they leave of the width.
    longest = max(len(name) for name in names) + 6
    beside = 0.55 * longest * layout.small / 72  # inches
    unit = max(layout.width - 2 * beside - 0.2, 0.8) / (count - 0.4)
    height = (1.0 + 0.2 * len(joined) + 0.26 * half) * layout.type_size / 10
    with drawing(height, layout) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.plot([1, count], [0, 0], color=INK, linewidth=1)
        for rank in range(1, count + 1):
            axes.plot([rank, rank], [0, -0.12], color=INK, linewidth=1)
            axes.text(rank, -0.2, str(rank), ha="center", va="bottom", fontsize=layout.small)
        for position, (x, index) in enumerate(zip(mean, order, strict=True)):
            left = position < half
            y = top + 0.45 * (position if left else count - 1 - position)
            edge = 0.7 if left else count + 0.3
            axes.plot([x, x, edge], [0, y, y], color=SOFT, linewidth=0.9)
            text = f"{names[index]}  {x:.2f}" if left else f"{x:.2f}  {names[index]}"
            axes.text(
                edge + (-0.08 if left else 0.08),
                y,
                text,
                ha="right" if left else "left",
                va="center",
                fontsize=layout.small,
            )
        for level, (first, last) in enumerate(joined):
            y = 0.22 + 0.22 * level
            axes.plot(
                [mean[first] - 0.05, mean[last] + 0.05],
                [y, y],
                color=COLOURS[0],
                linewidth=4,
                solid_capstyle="butt",
            )
        if ranks.critical < count - 1:
            axes.plot([1, 1 + ranks.critical], [-0.75, -0.75], color=INK, linewidth=1.5)
            axes.text(
                1 + ranks.critical / 2,
                -0.82,
                f"critical difference {ranks.critical:.2f}",
                ha="center",
                va="bottom",
                fontsize=layout.small,
            )
        axes.set_xlim(0.7 - beside / unit, count + 0.3 + beside / unit)
        axes.set_ylim(top + 0.45 * half, -1.15)
        return Chart(
            figure,
            "Mean ranks",
            "; ".join(f"{names[index]} {x:.2f}" for x, index in zip(mean, order, strict=True))
            + ".",
        )


def cliques(mean: Float64[np.ndarray, "k"], critical: float) -> list[tuple[int, int]]:
    """Return the longest runs of mean ranks whose first and last differ by less than `critical`.

    Args:
        mean: k mean ranks in ascending order.
        critical: Nemenyi's critical difference.

    Returns:
        The first and last position of each run.
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = int(np.flatnonzero(mean - mean[first] <= critical)[-1])
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return runs
