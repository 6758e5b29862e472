"""Values that a chart of the report shows under the pointer, without a script."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

LINE = 13
"""Points from one line of text to the next."""
CHARACTER = 6.2
"""Points of a character, about."""


@dataclass(frozen=True)
class Value:
    """A line of text about a curve, of which the page can be told not to show it.

    Attributes:
        curve: the number of the curve in its study.
        text: its name and its value.
    """

    curve: int
    text: str


@dataclass(frozen=True)
class Hover:
    """The values of a chart at each place of its horizontal axis.

    Attributes:
        axes: drawn and laid out, in a figure of 72 dots an inch.
        values: the place, its heading, and the lines below that.
    """

    axes: Axes
    values: tuple[tuple[float, str, tuple[Value, ...]], ...]

    def svg(self) -> str:
        """Return a band of the chart for each place, with what the style sheet shows on it."""
        x0, y0, x1, y1 = map(float, self.axes.get_window_extent().extents)
        top = float(self.axes.figure.bbox.height) - y1
        places = [
            float(self.axes.transData.transform((place, 0.0))[0]) for place, _, _ in self.values
        ]
        edges = [x0, *(np.add(places[1:], places[:-1]) / 2).tolist(), x1]
        parts = []
        for number, (x, (_, heading, lines)) in enumerate(zip(places, self.values, strict=True)):
            left, right = edges[number], edges[number + 1]
            parts.append(
                '<g class="at">'
                f'<rect class="hit" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}"'
                f' height="{y1 - y0:.1f}"/>'
                f'<g class="tip"><path d="M{x:.1f} {top:.1f}v{y1 - y0:.1f}"/>'
                + _tip(x, top + y1 - y0, heading, lines, leftwards=x > (x0 + x1) / 2)
                + "</g></g>"
            )
        return f'<g class="hover">{"".join(parts)}</g>'


def _tip(x: float, bottom: float, heading: str, lines: Sequence[Value], *, leftwards: bool) -> str:
    """Return a box with text beside a line at x, low in the chart, as curves rise."""
    height = LINE * (len(lines) + 1) + 8
    top = max(4.0, bottom - height - 4)
    width = CHARACTER * max(len(text) for text in (heading, *(line.text for line in lines))) + 12
    left = x - width - 6 if leftwards else x + 6
    texts = [
        f'<text class="curve-{line.curve}" x="{left + 6:.1f}"'
        f' y="{top + LINE * (place + 2) + 2:.1f}">{html.escape(line.text)}</text>'
        for place, line in enumerate(lines)
    ]
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}"'
        f' height="{height}" rx="3"/>'
        f'<text class="heading" x="{left + 6:.1f}" y="{top + LINE + 1:.1f}">'
        f"{html.escape(heading)}</text>{''.join(texts)}"
    )
