"""Make the pictures and the tables of docs/how-dfal-works.md; docs/how_measured.py measures.

python docs/how_dfal_works.py            # under a minute with one thread
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from drawing import CLASSES, PICTURES, drawing, plane, write
from how_measured import (
    FACTORS,
    NEAREST,
    SEED,
    after_queries,
    digits,
    longest_trace,
    measured_digit,
    measured_distances,
    measured_learning,
    measured_transfer,
    nearest_of_another_class,
    one_digit,
    transfer,
)
from matplotlib.axes import Axes
from numpy.typing import NDArray
from plane import LIMITS, Boundary, Plane, classes_of, scatter
from torch import Tensor, nn

import dfal

PAGE = PICTURES.parent / "how-dfal-works.md"
INK, GREY, BLUE, ORANGE, GREEN, PINK = "#1c1f23", "#7f7f7f", *CLASSES, "#cc79a7"
WIDTH = 7.2
"""Inches of a picture: on a phone its text is still legible."""
SHOWN = slice(0, 300, 12)
"""Points whose distances are drawn."""
DIGIT = 105
"""Of the test digits, the one that is shown."""
GRID = 160
"""Points of the grid on a side, in pictures; the true distance is measured on 800."""


def _pool(axes: Axes, state: Plane, boundary: Boundary, title: str) -> None:
    """Draw the boundary, unlabelled points in grey and labelled ones in their colours."""
    plane(axes, title, LIMITS)
    boundary.draw(axes, INK)
    axes.scatter(*state.x[state.pool.unlabelled].T, s=5, color=GREY)
    labelled = state.pool.labelled
    scatter(axes, state.x[labelled], state.y[labelled], 42, edgecolor=INK, linewidth=0.9)


def _ways(
    axes: Axes, start: Tensor, end: Tensor | NDArray[np.float64], length: NDArray[np.float64]
) -> None:
    """Draw a line from some points to where they are led, and the nearest points in pink."""
    end = np.asarray(end)
    for a, b in zip(start[SHOWN].numpy(), end[SHOWN], strict=True):
        axes.plot([a[0], b[0]], [a[1], b[1]], color=INK, linewidth=0.8)
    chosen = length.argsort(kind="stable")[:NEAREST]
    for a, b in zip(start[chosen].numpy(), end[chosen], strict=True):
        axes.plot([a[0], b[0]], [a[1], b[1]], color=PINK, linewidth=1.3)
    axes.scatter(*start[chosen].T, s=26, color=PINK, edgecolor=INK, linewidth=0.7, zorder=3)


def _estimates(
    axes: Axes, true: NDArray[np.float64], estimate: NDArray[np.float64], name: str
) -> None:
    """Draw estimated over true distances, with those that are selected in pink."""
    axes.plot([0, 1.3], [0, 1.3], color=GREY, linewidth=1, linestyle="--")
    axes.scatter(true, estimate, s=9, color=BLUE)
    chosen = estimate.argsort(kind="stable")[:NEAREST]
    axes.scatter(true[chosen], estimate[chosen], s=26, color=PINK, edgecolor=INK, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlim=(0, 1.3), ylim=(0, 2.2), xlabel="true distance", ylabel="estimate")
    axes.set_title(name, fontsize=11, loc="left", pad=6)


def draw_distances(state: Plane) -> None:
    """Draw the pool, the true distance, and both estimates of it."""
    shown = Boundary.of(state.model, GRID)
    x = state.x[state.pool.unlabelled]
    true, place = Boundary.of(state.model, 800).nearest(x)
    with drawing(WIDTH, 3.9) as figure:
        left, right = figure.subplots(1, 2)
        _pool(left, state, shown, "A network trained on 9 labels")
        _pool(right, state, shown, "(a) True distance to its boundary")
        _ways(right, x, place, true)
    write(
        "how-points",
        figure,
        "A pool of points, and their distances to the decision boundary",
        "Three bent arms of grey unlabelled points, with nine labelled points in the colours of"
        " three classes. Regions show the predicted class. On the right, lines lead from some"
        " points to the nearest place of the boundary; the nine nearest points are pink.",
    )
    other, sample = nearest_of_another_class(state, x)
    with drawing(WIDTH, 3.7) as figure:
        left, right = figure.subplots(1, 2)
        _pool(left, state, shown, "(b) Nearest label of another class")
        _ways(left, x, sample, other)
        _estimates(right, true, other, "Estimate over true distance")
    write(
        "how-other-class",
        figure,
        "The nearest label of another class as an estimate of the distance to the boundary",
        "On the left, lines lead from points to labelled points of another class, far beyond the"
        " boundary. On the right, the estimates lie above the diagonal everywhere, and the nine"
        " smallest do not belong to the nine nearest points.",
    )
    perturbation = dfal.DeepFool()(state.model, x)
    estimate = perturbation.distance.double().numpy()
    with drawing(WIDTH, 3.7) as figure:
        left, right = figure.subplots(1, 2)
        _pool(left, state, shown, "(c) DeepFool’s adversarial example")
        _ways(left, x, perturbation.images, estimate)
        _estimates(right, true, estimate, "Estimate over true distance")
    write(
        "how-estimate",
        figure,
        "The length of DeepFool's perturbation as an estimate of the distance to the boundary",
        "On the left, lines lead from points just across the boundary. On the right, the estimates"
        " lie on the diagonal where the true distance is small, and above it elsewhere.",
    )


def draw_steps(state: Plane) -> None:
    """Draw the steps of DeepFool for one point, each with the tangent that it steps to."""
    steps = longest_trace(state)
    way = torch.stack([steps[0].x, *(step.to for step in steps)])
    middle = (way.amax(0) + way.amin(0)) / 2
    half = 1.3 * float((way - middle).abs().max()) + 0.02
    x, y = middle.tolist()
    boundary = Boundary.of(state.model, GRID, (x, y), half)
    panels = {"Step 1": (0, 1), f"Steps 2 to {len(steps)}": (1, len(steps))}
    with drawing(WIDTH, 3.9) as figure:
        for axes, (title, (first, last)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            plane(axes, title, LIMITS)
            axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
            boundary.draw(axes, INK)
            for step in steps[first:last]:
                w = step.w / step.w.norm()
                foot, along = step.x + step.distance * w, torch.stack([-w[1], w[0]])
                axes.plot(*torch.stack([foot - 9 * along, foot + 9 * along]).T, "--", color=PINK)
            path = way[: last + 1]
            axes.plot(*path.T, color=INK, linewidth=1.6, marker="o", markersize=5)
            for index in range(first, last + 1):
                # Names of the last steps, which are short, would hide each other.
                if (
                    index in {first, last}
                    or float((path[index] - path[index - 1]).norm()) > half / 5
                ):
                    place = (-18, -4) if index in {0, last} else (8, 2)
                    axes.annotate(f"$x_{index}$", path[index], place, textcoords="offset points")
    write(
        "how-deepfool",
        figure,
        f"The {len(steps)} steps of DeepFool for one point",
        "On the left, the first step leads from the point to a dashed line: the boundary of the"
        " network linearised at the point, which lies beside the true boundary. On the right, the"
        " next steps do the same from where the last one led, until the class changes.",
    )


def draw_query(state: Plane) -> None:
    """Draw a query with its twins, and the boundary after training with and without them."""
    query = dfal.DFAL(candidates=None)(state.model, state.pool, NEAREST, torch.Generator())
    after = state.after(query, SEED)
    without = state.after(dfal.Query(query.indices, query.scores), SEED)
    # The window is around the most isolated of the points that have a neighbour in the query.
    queried = state.x[query.indices]
    x, y = queried[0].tolist()
    near = (queried - queried[0]).abs().amax(1) < 0.5
    half = 1.6 * float((queried[near] - queried[0]).abs().max()) + 0.02
    with drawing(WIDTH, 3.9) as figure:
        left, right = figure.subplots(1, 2)
        plane(left, "Queried points and twins, magnified", LIMITS)
        left.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
        Boundary.of(state.model, GRID, (x, y), half).draw(left, INK)
        scatter(left, queried, state.y[query.indices], 42, edgecolor=INK, linewidth=0.9)
        left.scatter(*query.twins.T, s=42, marker="x", color=INK, linewidth=1.4, zorder=3)
        plane(right, "After: with twins; without, dashed", LIMITS)
        Boundary.of(after.model, GRID).draw(right, INK)
        Boundary.of(without.model, GRID).draw(right, INK, regions=False, style="--")
        Boundary.of(state.model, GRID).draw(right, GREY, regions=False, style=":")
        scatter(right, state.x, state.y, 6)
    write(
        "how-query",
        figure,
        "A query of DFAL, and the boundary before and after",
        "On the left, queried points in the colours of their classes close to the boundary, each"
        " with a cross for its twin on the other side. On the right, the boundary after training on"
        " them: a solid line with the twins, a dashed line without, and a dotted line before.",
    )


def draw_digit(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Draw one digit with its changes by DeepFool and FGSM, and return these."""
    changes = one_digit(network, x)
    largest = max(float(r.abs().max()) for r in changes.values())
    with drawing(WIDTH, 5.8) as figure:
        for row, (name, r) in zip(figure.subplots(2, 3), changes.items(), strict=True):
            own, new = (int(classes_of(network, image.unsqueeze(0))) for image in (x, x + r))
            length = f"$‖r‖_2$ = {float(r.norm()):.2f}, drawn × {1 / largest:.0f}"
            pictures = ((f"x: “{own}”", x), (f"{name}: r", r), (f"x + r: “{new}”", x + r))
            for axes, (title, image) in zip(row, pictures, strict=True):
                change = image is r
                limits = (-largest, largest) if change else (0, 1)
                axes.imshow(
                    image[0].numpy(),
                    cmap="RdBu_r" if change else "gray",
                    vmin=limits[0],
                    vmax=limits[1],
                    interpolation="none",
                )
                axes.set(xticks=[], yticks=[])
                axes.set_title(title, fontsize=11, loc="left", pad=5)
                if change:
                    axes.set_xlabel(length)
    write(
        "how-digit",
        figure,
        "One digit, changed by DeepFool and by FGSM",
        "Two rows of three pictures: the digit, the change r with its length, and the changed digit"
        " with the class that the network predicts. DeepFool changes the strokes most, FGSM changes"
        " all pixels by the same amount.",
    )
    return changes


def draw_transfer(changed: Mapping[str, Sequence[float]]) -> None:
    """Draw how many images change their class, in each network, over the length of the change."""
    styles = ((BLUE, "o", "-"), (GREEN, "D", "-"), (ORANGE, "s", "-"), (GREY, "^", "--"))
    with drawing(WIDTH, 4.2) as figure:
        axes = figure.subplots()
        for (name, shares), (colour, marker, line) in zip(changed.items(), styles, strict=True):
            axes.plot(FACTORS, shares, line, color=colour, marker=marker, linewidth=2, label=name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="length of the change, in distances to LeNet5's boundary", ylim=(-3, 103))
        axes.set_ylabel("predictions that change, %")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    write(
        "how-transfer",
        figure,
        "Adversarial examples of one network in others",
        "Lines rise with the length of the change: highest for the network that the changes were"
        " made for, then for the same architecture of another seed, then for a network without"
        " convolutions; random noise of the same length changes almost no prediction.",
    )


def table(values: Mapping[str, float], head: str, digits: int) -> str:
    """Return figures as a table of Markdown: `row: column` names a cell.

    >>> print(table({"a: mean": 1.234, "a: largest": 2}, "of", 1))
    | of | mean | largest |
    |---|---|---|
    | a | 1.2 | 2 |
    """
    rows: dict[str, dict[str, str]] = {}
    for name, value in values.items():
        row, _, column = name.partition(": ")
        text = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
        rows.setdefault(row, {})[column] = text
    columns = dict.fromkeys(column for cells in rows.values() for column in cells)
    lines = [[row, *(cells[column] for column in columns)] for row, cells in rows.items()]
    first, *rest = ("| " + " | ".join(line) + " |" for line in [[head, *columns], *lines])
    return "\n".join([first, "|---" * (len(columns) + 1) + "|", *rest])


HEADS = {
    "distances": ("300 points, 9 labels", 2),
    "learning": ("accuracy, %", 1),
    "digit": ("change", 2),
    "transfer": ("predictions that change, %", 0),
}
"""Heads and digits of the tables in the page."""


def with_table(text: str, name: str, values: Mapping[str, float]) -> str:
    """Return the text of the page with one of its tables written anew."""
    before, begin, rest = text.partition(f"<!-- measured: {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not (begin and end):
        raise SystemExit(f"docs/{PAGE.name} has no {begin} … <!-- end -->")
    return f"{before}{begin}{table(values, *HEADS[name])}\n{end}{after}"


def main() -> None:
    """Make all pictures, and write the tables into the page."""
    start = time.process_time()
    torch.set_num_threads(1)
    state = Plane.start(300, 3, SEED)
    draw_distances(state)
    draw_steps(after_queries(state, 2))
    draw_query(state)
    data, networks = digits(500, 20)
    network = next(iter(networks.values()))
    x = data.test_images.take(torch.arange(0, 1000, 4))
    changes = draw_digit(network, x[DIGIT])
    changed = transfer(networks, x)
    draw_transfer(changed)
    text = PAGE.read_text(encoding="utf-8")
    for name, values in {
        "distances": measured_distances(state),
        "learning": measured_learning(),
        "digit": measured_digit(changes),
        "transfer": measured_transfer(changed),
    }.items():
        text = with_table(text, name, values)
    PAGE.write_text(text, encoding="utf-8")
    print(f"{time.process_time() - start:.0f} s of one thread")


if __name__ == "__main__":
    main()
