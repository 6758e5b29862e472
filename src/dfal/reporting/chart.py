"""What all charts have in common: sizes, colours, markers, and how they become files.

On the page, which may be light or dark, ink, grid and background are the page's own colours.
"""

import contextlib
import html
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dfal.analysis.learning_curves import Study
from dfal.atomic import atomic_write
from dfal.reporting.hover import Hover

INK, SOFT, GRID, PAPER = "#1c1f23", "#5b636e", "#e3e6ea", "#ffffff"
"""The colours that the page's style sheet calls --ink, --soft, --line and --paper."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
"""Colours of curves, distinguishable for colour-blind readers (Okabe & Ito)."""
LINES = ("-", "--", ":", "-.")
"""Line styles of curves, one after the other where colours repeat."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of curves, one for each colour."""
GREY = "#7f7f7f"
"""The colour of random sampling."""
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
DPI = 72
"""Dots an inch of a drawing, which are the points of an SVG."""

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
class Layout:
    """How large a chart is drawn.

    Attributes:
        width: inches.
        type_size: points of the letters; the smallest are nine tenths of it.
        scale: of heights, lines and markers.
        ticks: budgets named below an axis, at most.
        panels: panels of Figure 2 side by side, and names of a legend.
        on_page: whether names stand at the ends of curves, in place of a legend, and values are
            shown under the pointer.
    """

    width: float
    type_size: float
    scale: float = 1.0
    ticks: int = MAX_TICKS
    panels: int = 4
    on_page: bool = False

    @property
    def small(self) -> float:
        """Return the size of the smallest letters in points."""
        return 0.9 * self.type_size


SCREEN = Layout(8.6, 10, on_page=True)
"""A chart of the report."""
LAYOUTS = {"column": Layout(3.4, 8, 0.65, 5, 2), "page": Layout(7.0, 8, 0.8)}
"""Charts of an article, by what they are as wide as: one of two columns, or the text of a page."""


@dataclass(frozen=True)
class Chart:
    """A drawn figure.

    Attributes:
        figure: the drawing.
        title: what it shows, for readers who do not see it.
        description: its main numbers, in sentences.
        caption: what lines, bands and dots are.
        hover: the values under the pointer.
    """

    figure: Figure
    title: str = ""
    description: str = ""
    caption: str = ""
    hover: tuple[Hover, ...] = ()

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
        text = re.sub(r'id="curve-(\d+)-\w+"', r'class="curve-\1"', text)
        text = text[text.index("<svg") :].rstrip().removesuffix("</svg>")
        return self._with_title(text) + "".join(part.svg() for part in self.hover) + "</svg>\n"

    def _with_title(self, svg: str) -> str:
        """Return an SVG with the title and the description that a screen reader says."""
        if not self.title:
            return svg
        name = re.sub(r"\W+", "-", self.title)
        begin, rest = svg.split(">", 1)
        return (
            f'{begin} role="img" aria-labelledby="{name}-title {name}-text">'
            f'<title id="{name}-title">{html.escape(self.title)}</title>'
            f'<desc id="{name}-text">{html.escape(self.description)}</desc>{rest}'
        )

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
            self.figure.savefig(
                partial,
                format=kind,
                facecolor="white",
                metadata=undated | ({"Title": self.title} if self.title else {}),
            )


def css(colour: str) -> str:
    """Return a colour as the page's style sheet writes it."""
    return VARIABLES.get(colour, colour)


def colours(study: Study) -> list[str]:
    """Return a colour for each curve of a study, the same in all of its charts."""
    others = itertools.cycle(COLOURS)
    return [GREY if curve is study.baseline else next(others) for curve in study.curves]


@contextlib.contextmanager
def drawing(height: float, layout: Layout = SCREEN) -> Iterator[Figure]:
    """Provide a figure of a layout's width, in the style of all charts.

    It is laid out once, at the end, as a second layout may differ in the last digits.
    """
    thin = {
        f"{side}.{kind}.width": 0.8 * layout.scale
        for side in ("xtick", "ytick")
        for kind in ("major", "minor")
    }
    with rc_context(STYLE | thin | {"font.size": layout.type_size}):
        # Letters of a PDF are a little wider than those of a screen, by which space is measured.
        figure = Figure(figsize=(layout.width, height), dpi=DPI)
        margin = {} if layout.on_page else {"w_pad": 7 / DPI}
        figure.set_layout_engine("constrained", **margin)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def styled(axes: Axes) -> Axes:
    """Return axes with the grid and margins of all charts."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.02)
    return axes


def add_legend(
    figure: Figure,
    axes: Axes,
    place: Literal["outside upper left", "outside right upper"],
    *,
    columns: int,
    layout: Layout,
) -> None:
    """Add a legend outside the axes, where it covers no band."""
    lines, names = axes.get_legend_handles_labels()
    figure.legend(lines, names, loc=place, ncols=columns, frameon=False, fontsize=layout.small)


def tick_budgets(
    axes: Axes, measured: Sequence[Int64[np.ndarray, "b"]], most: int = MAX_TICKS
) -> None:
    """Set ticks at measured budgets: all, or every second, third, … counted from the last."""
    budgets = np.unique(np.concatenate(measured))[::-1]
    axes.set_xticks(budgets[:: -(-len(budgets) // most)][::-1])
