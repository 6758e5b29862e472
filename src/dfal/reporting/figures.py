"""Charts of a study: learning curves, and differences between strategies."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from dfal.analysis.learning_curves import Comparison, Study
from dfal.analysis.tables import signed
from dfal.reporting.chart import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    PAPER,
    SCREEN,
    Chart,
    Layout,
    add_legend,
    colours,
    drawing,
    styled,
    tick_budgets,
)
from dfal.reporting.hover import Hover, Value

MAX_BANDS = 8
"""Curves with bands, at most: more bands would hide each other."""
MAX_NAME = 24
"""Characters of a name that fits four times above a chart."""
MAX_MARKERS = 15
"""Markers of a curve, at most."""
LINE = 1.25
"""Height of a name at the end of a curve, in heights of its letters."""


def curves(study: Study, layout: Layout = SCREEN) -> Chart:
    """Draw mean learning curves, with one standard deviation over the seeds as bands."""
    many = len(study.curves) > MAX_BANDS
    several = any(len(curve.trials) > 1 for curve in study.curves)
    height = (6.0 if many else 4.6) * layout.scale
    if not layout.on_page:  # its legend takes more of a smaller chart
        height += 0.16 * -(-len(study.curves) // layout.panels) * (1 if many else 0.5)
    with drawing(height, layout) as figure:
        axes = styled(figure.add_subplot())
        for number, (curve, colour) in enumerate(zip(study.curves, colours(study), strict=True)):
            x, mean, spread = curve.annotations, 100 * curve.mean, 100 * curve.spread
            if not many:
                axes.fill_between(
                    x,
                    mean - spread,
                    mean + spread,
                    color=colour,
                    alpha=BAND,
                    linewidth=0,
                    gid=f"curve-{number}-band",
                )
            axes.plot(
                x,
                mean,
                LINES[number // len(COLOURS) % len(LINES)],
                color=colour,
                linewidth=2 * layout.scale,
                marker=MARKERS[number % len(MARKERS)],
                markersize=5 * layout.scale,
                markevery=-(-len(x) // MAX_MARKERS),
                label=curve.name,
                gid=f"curve-{number}-line",
            )
        axes.set_xlabel("annotations")
        axes.set_ylabel("test accuracy (%)")
        tick_budgets(axes, [curve.annotations for curve in study.curves], layout.ticks)
        if layout.on_page:
            _name_ends(axes, study, height, layout)
        else:
            side = layout.panels > 2 and (
                many or any(len(curve.name) > MAX_NAME for curve in study.curves)
            )
            add_legend(
                figure,
                axes,
                "outside right upper" if side else "outside upper left",
                columns=1 if side else layout.panels,
                layout=layout,
            )
        last = study.measured[-1]
        ends = sorted(
            ((100 * float(at.mean()), curve.name) for curve in study.curves
             if (at := curve.at(last)) is not None),
            reverse=True,
        )  # fmt: skip
        return Chart(
            figure,
            "Learning curves",
            f"Mean test accuracy over {study.seeds}, from {study.measured[0]} to {last}"
            f" annotations. At {last}: "
            + ", ".join(f"{name} {mean:.1f} %" for mean, name in ends)
            + ".",
            f"Mean test accuracy over {study.seeds}."
            + (" Bands: ± one standard deviation." if several and not many else "")
            + " Accuracies are as measured, without a running maximum.",
            (_values(axes, study),) if layout.on_page else (),
        )


def _values(axes: Axes, study: Study) -> Hover:
    """Return what is shown at each budget: all strategies, the best first."""
    values = []
    for budget in study.measured:
        lines = []
        for number, curve in enumerate(study.curves):
            accuracy = curve.at(budget)
            if accuracy is not None:
                mean = 100 * float(accuracy.mean())
                spread = f" ± {100 * float(accuracy.std(ddof=1)):.1f}" if len(accuracy) > 1 else ""
                lines.append((mean, Value(number, f"{mean:.1f}{spread}  {curve.name}")))
        lines.sort(key=lambda line: -line[0])
        values.append((float(budget), f"{budget} annotations", tuple(line for _, line in lines)))
    return Hover(axes, tuple(values))


def _name_ends(axes: Axes, study: Study, height: float, layout: Layout) -> None:
    """Write each curve's name beside its end, moved up or down where names would overlap."""
    axes.set_ylim(axes.get_ylim())
    low, high = axes.get_ylim()
    step = LINE * layout.small / 72 / (height - 0.7)  # of the height of the axes, about
    ends = [(100 * float(curve.mean[-1]) - low) / (high - low) for curve in study.curves]
    places = spread_out(ends, step)
    for number, (curve, colour) in enumerate(zip(study.curves, colours(study), strict=True)):
        name = axes.annotate(
            curve.name,
            (float(curve.annotations[-1]), 100 * float(curve.mean[-1])),
            (1.04, places[number]),
            textcoords=axes.transAxes,
            fontsize=layout.small,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "relpos": (0.0, 0.5),
                "shrinkA": 9,
                "shrinkB": 3,
            },
            gid=f"curve-{number}-name",
        )
        axes.plot(
            1.025,
            places[number],
            MARKERS[number % len(MARKERS)],
            color=colour,
            markersize=5,
            transform=axes.transAxes,
            clip_on=False,
            gid=f"curve-{number}-end",
        )
        if name.arrow_patch is not None:
            name.arrow_patch.set_gid(f"curve-{number}-leader")


def spread_out(places: Sequence[float], step: float) -> list[float]:
    """Move places apart until neighbours are at least a step from each other.

    Args:
        places: numbers in any order.
        step: the smallest distance.

    Returns:
        Places in the same order. Runs of near ones are centred on their mean.
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    runs: list[tuple[float, int]] = []  # the middle of each run, and how many are in it
    for at in order:
        runs.append((places[at], 1))
        while len(runs) > 1:
            (below, few), (above, more) = runs[-2:]
            if above - below >= step * (few + more) / 2:
                break
            runs[-2:] = [((below * few + above * more) / (few + more), few + more)]
    spaced = [
        middle + step * (place - (count - 1) / 2)
        for middle, count in runs
        for place in range(count)
    ]
    return [spaced[order.index(at)] for at in range(len(places))]


def differences(comparisons: Sequence[Comparison], layout: Layout = SCREEN) -> Chart:
    """Draw differences in AULC with their 95 % CI, the largest on top; filled where p < 0.05."""
    ordered = sorted(comparisons, key=lambda comparison: comparison.gain)
    with drawing((0.8 + 0.24 * len(ordered)) * layout.type_size / 10, layout) as figure:
        axes = styled(figure.add_subplot())
        axes.axvline(0, color=GREY, linewidth=1)
        for y, comparison in enumerate(ordered):
            gain, half = 100 * comparison.gain, 100 * comparison.half_width
            axes.plot(
                [gain - half, gain + half],
                [y, y],
                color=COLOURS[0],
                linewidth=2 * layout.scale,
                solid_capstyle="butt",
            )
            axes.plot(
                gain,
                y,
                "o",
                color=COLOURS[0],
                markersize=6 * layout.scale,
                markerfacecolor=COLOURS[0] if comparison.significant else PAPER,
            )
        names = [f"{one.curve.name} − {one.reference.name}" for one in ordered]
        axes.set_yticks(range(len(ordered)), names, fontsize=layout.small)
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        label = "difference in AULC (points of accuracy, 95 % CI)"
        axes.set_xlabel(label if layout.panels > 2 else "difference in AULC (points, 95 % CI)")
        return Chart(
            figure,
            "Differences in AULC",
            "; ".join(
                f"{name} {signed(100 * one.gain)}" + _interval(one)
                for name, one in zip(reversed(names), reversed(ordered), strict=True)
            )
            + ".",
            _caption(comparisons),
        )


def _caption(comparisons: Sequence[Comparison]) -> str:
    """Return what a chart of differences shows, and only that."""
    text = "Differences in mean accuracy over the curve (AULC, by trapezoids), over paired seeds."
    if len(comparisons) == 1:
        return f"{text} The line is its 95 % CI; the dot is filled where p < 0.05."
    text += (
        " Each 95 % CI is that of one difference, without correction for several comparisons; a dot"
        " is filled where p < 0.05 after Holm’s correction."
    )
    if any(abs(one.gain) > one.half_width and not one.significant for one in comparisons):
        text += " So an interval excludes 0 although its difference is not significant."
    return text


def _interval(comparison: Comparison) -> str:
    if comparison.seeds < 2:
        return ""
    gain, half = 100 * comparison.gain, 100 * comparison.half_width
    verdict = "" if comparison.significant else ", not significant"
    return f" ({signed(gain - half)} to {signed(gain + half)}{verdict})"
