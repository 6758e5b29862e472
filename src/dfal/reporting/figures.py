"""Charts for the page and for papers.

On the page, which may be light or dark, ink, grid and background are the page's own colours.
"""

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dfal.analysis.learning_curves import Comparison, Curve, Study
from dfal.atomic import atomic_write
from dfal.reproduce.figure3 import Series
from dfal.reproduce.paper import Points
from dfal.stats.significance import Ranks, bootstrap

INK, SOFT, GRID, PAPER = "#1c1f23", "#5b636e", "#e3e6ea", "#ffffff"
"""The colours that the page's style sheet calls --ink, --soft, --line and --paper."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
"""Colours of curves, distinguishable for colour-blind readers (Okabe & Ito)."""
LINES = ("-", "--", ":", "-.")
"""Line styles of curves, one after the other where colours repeat."""
GREY = "#7f7f7f"
"""The colour of random sampling."""
MAX_BANDS = 8
"""Curves with bands, at most: more bands would hide each other."""
MAX_NAME = 24
"""Characters of a name that fits four times above a chart."""
MIN_PAPER_AXIS = 500
"""Fewest annotations of ours for which the axis extends as far as the paper's, to 1000."""
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    GREY: "var(--grey)",
}
VARIABLES |= {colour: f"var(--colour-{number})" for number, colour in enumerate(COLOURS[:-1], 1)}
BAND = 0.17
"""Opacity of a band; the dark page raises it."""
MAX_TICKS = 10
"""Budgets named below an axis, at most."""

STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "dfal", "pdf.fonttype": 42}
STYLE |= {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
STYLE |= dict.fromkeys(
    ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK
)
STYLE |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), SOFT)


@dataclass(frozen=True)
class Chart:
    """A drawn figure."""

    figure: Figure

    @property
    def svg(self) -> str:
        """Return the figure as SVG in the page's colours."""
        file = io.StringIO()
        with rc_context(STYLE):
            self.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue()
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, variable)
        text = text.replace(f"fill-opacity: {BAND}", "fill-opacity: var(--band)")
        return text[text.index("<svg") :]

    def write(self, path: Path) -> None:
        """Write the figure on white, as PDF or SVG by the file's ending.

        Raises:
            DfalError: if the file cannot be written.
        """
        kind = path.suffix[1:]
        undated = {"Date": None, "Creator": None} if kind == "svg" else {"CreationDate": None}
        with (
            atomic_write(path, "name another folder", "the figure") as partial,
            rc_context(STYLE | {"svg.fonttype": "path"}),
        ):
            self.figure.savefig(partial, format=kind, facecolor="white", metadata=undated)


def css(colour: str) -> str:
    """Return a colour as the page's style sheet writes it."""
    return VARIABLES.get(colour, colour)


def colours(study: Study) -> list[str]:
    """Return a colour for each curve of a study, the same in all of its charts."""
    others = itertools.cycle(COLOURS)
    return [GREY if curve is study.baseline else next(others) for curve in study.curves]


def curves(study: Study) -> Chart:
    """Draw mean learning curves, with one standard deviation over the seeds as bands."""
    many = len(study.curves) > MAX_BANDS
    with _drawing(6.0 if many else 4.6) as figure:
        axes = _axes(figure.add_subplot())
        for number, (curve, colour) in enumerate(zip(study.curves, colours(study), strict=True)):
            x, mean, spread = curve.annotations, 100 * curve.mean, 100 * curve.spread
            if not many:
                axes.fill_between(
                    x, mean - spread, mean + spread, color=colour, alpha=BAND, linewidth=0
                )
            style = LINES[number // len(COLOURS) % len(LINES)]
            marker = "o" if len(x) <= 30 and not many else None
            axes.plot(
                x,
                mean,
                style,
                color=colour,
                linewidth=2,
                marker=marker,
                markersize=3.5,
                label=curve.name,
            )
        axes.set_xlabel("annotations")
        axes.set_ylabel("test accuracy (%)")
        _tick_budgets(axes, [curve.annotations for curve in study.curves])
        side = many or any(len(curve.name) > MAX_NAME for curve in study.curves)
        _legend(
            figure,
            axes,
            "outside right upper" if side else "outside upper left",
            columns=1 if side else 4,
        )
        return Chart(figure)


def _legend(
    figure: Figure,
    axes: Axes,
    place: Literal["outside upper left", "outside right upper"],
    *,
    columns: int,
) -> None:
    """Add a legend outside the axes, where it covers no band."""
    lines, names = axes.get_legend_handles_labels()
    figure.legend(lines, names, loc=place, ncols=columns, frameon=False, fontsize=9)


def _tick_budgets(
    axes: Axes, measured: Sequence[Int64[np.ndarray, "b"]], most: int = MAX_TICKS
) -> None:
    """Set ticks at measured budgets: all, or every second, third, … counted from the last."""
    budgets = np.unique(np.concatenate(measured))[::-1]
    axes.set_xticks(budgets[:: -(-len(budgets) // most)][::-1])


def differences(comparisons: Sequence[Comparison]) -> Chart:
    """Draw differences in AULC with their 95 % CI, the largest on top; filled where p < 0.05."""
    ordered = sorted(comparisons, key=lambda comparison: comparison.gain)
    with _drawing(0.8 + 0.24 * len(ordered)) as figure:
        axes = _axes(figure.add_subplot())
        axes.axvline(0, color=GREY, linewidth=1)
        for y, comparison in enumerate(ordered):
            gain, half = 100 * comparison.gain, 100 * comparison.half_width
            axes.plot(
                [gain - half, gain + half],
                [y, y],
                color=COLOURS[0],
                linewidth=2,
                solid_capstyle="butt",
            )
            axes.plot(
                gain,
                y,
                "o",
                color=COLOURS[0],
                markersize=6,
                markerfacecolor=COLOURS[0] if comparison.significant else PAPER,
            )
        axes.set_yticks(
            range(len(ordered)),
            [f"{comparison.curve.name} − {comparison.reference.name}" for comparison in ordered],
        )
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        axes.set_xlabel("difference in AULC (points of accuracy, 95 % CI)")
        return Chart(figure)


def paper_curves(
    study: Study, published: dict[str, Points], full: Float64[np.ndarray, "s"] | None
) -> Chart:
    """Draw Figure 2: a panel for each strategy, with our curves and the paper's.

    Args:
        study: our trials.
        published: the paper's points of each strategy.
        full: our accuracies of the full training set.
    """
    width = 4
    rows = -(-len(study.curves) // width)
    ours = list(zip(study.curves, colours(study), strict=True))
    floor = _floor(study)
    measured = [curve.annotations for curve in study.curves]
    last = max(int(budgets[-1]) for budgets in measured)
    with _drawing(0.6 + 2.5 * rows) as figure:
        panels = figure.subplots(rows, width, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (curve, colour) in zip(panels, ours, strict=False):
            _axes(axes)
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
                curve.name, fontsize=9, color=colour, fontweight="bold", loc="left", pad=3
            )
            axes.set_ylim(floor, 100.5)
            _tick_budgets(axes, measured, most=4)
            if last < MIN_PAPER_AXIS:
                axes.set_xlim(right=1.03 * last)
        for axes in panels[len(ours) :]:
            axes.set_visible(False)
        figure.supxlabel("annotations", fontsize=9, color=INK)
        figure.supylabel("test accuracy (%)", fontsize=9, color=INK)
        dotted, dashed = (0, (1, 1)), (0, (4, 2))
        legend: dict[str, dict[str, Any]] = {
            "ours, with 95 % CI (bootstrap)": {"color": SOFT, "linewidth": 2},
            "ours, running maximum": {"color": SOFT, "linewidth": 0.8, "linestyle": dotted},
            "the paper’s (running maximum)": {"color": INK, "linewidth": 1.1, "linestyle": dashed},
            "our random sampling": {"color": GREY, "linewidth": 1, "alpha": 0.6},
        }
        if full is not None:
            legend["our full training set"] = {"color": SOFT, "linewidth": 0.7, "linestyle": ":"}
        lines = [Line2D([], [], label=label, **style) for label, style in legend.items()]
        figure.legend(handles=lines, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
        return Chart(figure)


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


def transfers(lines: Sequence[Series], published: dict[str, Points]) -> Chart:
    """Draw Figure 3: images selected by another network (dashed) or by the trained one itself.

    Args:
        lines: ours.
        published: the paper's points of each line, drawn as dots.
    """
    with _drawing(4.6) as figure:
        axes = _axes(figure.add_subplot())
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
                linewidth=2,
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
        _tick_budgets(axes, [line.annotations[line.annotations >= least] for line in lines])
        _legend(figure, axes, "outside upper left", columns=5)
        return Chart(figure)


def ranking(names: Sequence[str], ranks: Ranks) -> Chart:
    """Draw mean ranks on a line, the best on the left; bars join those that do not differ.

    Source:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    order = np.argsort(ranks.mean, kind="stable")
    mean, count = ranks.mean[order], len(names)
    half = -(-count // 2)
    joined = cliques(mean, ranks.critical)
    top = 0.55 + 0.22 * len(joined)
    with _drawing(1.0 + 0.2 * len(joined) + 0.26 * half) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.plot([1, count], [0, 0], color=INK, linewidth=1)
        for rank in range(1, count + 1):
            axes.plot([rank, rank], [0, -0.12], color=INK, linewidth=1)
            axes.text(rank, -0.2, str(rank), ha="center", va="bottom", fontsize=9)
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
                fontsize=9,
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
                fontsize=8,
            )
        axes.set_xlim(-1.6, count + 2.6)
        axes.set_ylim(top + 0.45 * half, -1.15)
        return Chart(figure)


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


@contextlib.contextmanager
def _drawing(height: float) -> Iterator[Figure]:
    """Provide a figure of the page's width, in the style of all charts.

    It is laid out once, at the end, as a second layout may differ in the last digits.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, height), dpi=72, layout="constrained")
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _axes(axes: Axes) -> Axes:
    """Return axes with the grid and margins of all charts."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.02)
    return axes
