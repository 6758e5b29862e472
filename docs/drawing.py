"""What the pictures of the docs share: SVG files that are light or dark as the reader's screen is.

Colours and style are those of the report's charts (`dfal.reporting.chart`).
"""

import contextlib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfal.reporting.chart import COLOURS, GREY, INK, PAPER, SOFT, STYLE, Chart

PICTURES = Path(__file__).resolve().parent / "pictures"
CLASSES = COLOURS[:3]
"""Colours of the three classes of points."""
MARKERS = "osD"
"""Their markers, for readers who cannot tell the colours apart."""
REGION = 0.17
"""Opacity of the region of a class, which `figures` lets a dark screen raise."""

LIGHT = {
    "ink": INK,
    "soft": SOFT,
    "line": "#e3e6ea",
    "paper": PAPER,
    "grey": GREY,
    "band": str(REGION),
    **{f"colour-{number}": colour for number, colour in enumerate(COLOURS[:-1], 1)},
}
DARK = {
    "ink": "#e8eaed",
    "soft": "#9aa3ad",
    "line": "#2d3339",
    "paper": "#14171a",
    "grey": "#b4bac2",
    "band": "0.3",
    "colour-1": "#4aa8ee",
    "colour-2": "#ff8b4d",
    "colour-3": "#2fd6a4",
    "colour-4": "#f2a3cf",
    "colour-5": "#ffc14a",
    "colour-6": "#9ad8ff",
}


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Provide a figure in the style of all pictures; its layout is fixed at the end."""
    with rc_context({**STYLE, "font.size": 11}):
        figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)  # browsers' fonts differ
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def svg(figure: Figure, title: str, description: str) -> str:
    """Return a figure as SVG, with the title and description that a screen reader says."""
    text = Chart(figure).svg
    rules = [
        ";".join(f"--{name}:{value}" for name, value in theme.items()) for theme in (LIGHT, DARK)
    ]
    head = (
        f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>\n"
        f" <style>:root{{{rules[0]};background:var(--paper)}}"
        f" @media (prefers-color-scheme:dark){{:root{{{rules[1]}}}}}</style>\n <defs>"
    )
    text = text.replace("<defs>", head, 1).replace("<svg ", '<svg role="img" ', 1)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def write(name: str, figure: Figure, title: str, description: str) -> None:
    """Write a picture into docs/pictures."""
    path = PICTURES / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg(figure, title, description), encoding="utf-8")


def plane(axes: Axes, title: str, limits: tuple[float, float]) -> Axes:
    """Return axes for points of the plane: without ticks, one unit as long as the other."""
    axes.set(xlim=limits, ylim=limits, aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=11, loc="left", pad=6)
    return axes
