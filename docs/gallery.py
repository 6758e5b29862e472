"""Write docs/gallery.md and a picture of each query strategy, from the registry.

python docs/gallery.py            # or: make figure
python docs/gallery.py --check    # exit status 1 where the page is not that of the code
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from drawing import PICTURES, drawing, plane, write
from numpy.typing import NDArray
from plane import Boundary, Plane, dropout_network, scatter
from tables import section

import dfal
from dfal.strategies import STRATEGIES, named, short_repr

PAGE = Path(__file__).resolve().parent / "gallery.md"
QUERIED = 12
"""Points that each strategy selects."""
INK, GREY, PAPER, PINK = "#1c1f23", "#7f7f7f", "#ffffff", "#cc79a7"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the gallery says of a strategy beside what the code says.

    Attributes:
        selects: what is computed, as a formula.
        when: when to use it.
    """

    selects: str
    when: str


GALLERY: dict[str, dict[str, Entry]] = {
    "Near the decision boundary": {
        "dfal": Entry(
            "the k smallest ‖r‖₂, where r = DeepFool(x); twins x + r",
            "You compare with the paper. The twins double the data to train on, and at an equal"
            " number of steps we found [no gain from them](twins.md): take `dfal-no-twins` or"
            " `margin` otherwise.",
        ),
        "dfal-no-twins": Entry(
            "the k smallest ‖r‖₂",
            "To measure what twins add. `margin` is level with it in our comparison and cheaper.",
        ),
        "dfal-batch": Entry(
            "5 k smallest ‖r‖₂; k-means of their features weighted by 1 / ‖r‖; the nearest of each",
            "Batches are large: points near the boundary are near each other too. It had the"
            " highest mean accuracy over the curve in our comparison.",
        ),
        "dfal-batch-no-twins": Entry(
            "as `dfal-batch`, without twins", "To measure what twins add to it."
        ),
    },
    "Uncertain predictions": {
        "margin": Entry(
            "the k smallest p₁ − p₂",
            "The first one to try: it costs one forward pass and has no setting to tune.",
        ),
        "entropy": Entry(
            "the k largest H(p) = −Σ p log p",
            "As the baseline of many papers. It was not significantly better than random sampling"
            " in our comparison; margin was.",
        ),
        "uncertainty": Entry("the same as `entropy`", "To reproduce the tables of the DFAL paper."),
        "least-confidence": Entry(
            "the k smallest p₁", "As a baseline; with two classes it is the same as margin."
        ),
        "margin+twins": Entry(
            "the k smallest p₁ − p₂; twins x + r of these",
            "As DFAL, with less computation for the query. Every strategy takes `+twins`.",
        ),
        "ceal": Entry(
            "the k largest H(p); pseudo-labels where H(p) < δ",
            "Pseudo-labels are wanted, and a threshold for them is known.",
        ),
    },
    "What the network would learn": {
        "bald": Entry(
            "the k largest H(mean p) − mean H(p) over T dropout samples",
            "The network has dropout, and images that are ambiguous in themselves should be left.",
        ),
        "power-bald": Entry(
            "k draws without replacement, in proportion to BALD's score",
            "As `bald` for large batches, without the cost of `batch-bald`.",
        ),
        "batch-bald": Entry(
            "the batch with the largest I(y₁ … y_k; ω), greedily",
            "The network has dropout, and batches are small: joint entropies of some ten images.",
        ),
        "egl": Entry(
            "the k largest Σ_y p(y | x) ‖∇_θ ℓ(x, y)‖₂",
            "As a baseline; C backward passes an image make it the slowest but few.",
        ),
        "egl-last-layer": Entry(
            "the same with θ of the last layer, in closed form",
            "As `egl` at the cost of one forward pass.",
        ),
        "badge": Entry(
            "k-means++ seeds among the gradients (p − e_ŷ) ⊗ φ(x) of the last layer",
            "Batches are large, and both uncertainty and variety matter. With twins it was second"
            " in our comparison.",
        ),
    },
    "Spread over the pool": {
        "core-set": Entry(
            "argmax_u min_l ‖φ(u) − φ(l)‖₂, one after another",
            "Features are meaningful, and rare images must not be missed. It selects outliers too.",
        ),
        "core-set-robust": Entry(
            "the k points with the smallest radius that covers the pool, proved",
            "To know how far the greedy `core-set` is from the optimum.",
        ),
        "cluster-margin": Entry(
            "10 k smallest margins in clusters; from each cluster in turn",
            "Batches are of hundreds and more.",
        ),
        "u-herding": Entry(
            "most Σ_x u(x) max_l κ(x, l), with u = 1 − (p₁ − p₂), greedily",
            "There are few labels now and will be many: it goes from coverage to uncertainty.",
        ),
        "few-labels": Entry(
            "one of each cluster; then most Σ_x u(x)^e max_l κ(x, l), with e growing to 1",
            "A model learns from pretrained features. The labelling page uses it then.",
        ),
    },
    "First labels": {
        "typi-clust": Entry(
            "in each of the largest clusters without a label, the smallest mean distance to the"
            " 20 nearest neighbours",
            "There is no label yet, and a space in which similar images are near each other.",
        ),
        "prob-cover": Entry(
            "most points within a radius δ that are not covered yet, greedily",
            "The same; δ is estimated. Points are compared by their direction from the origin.",
        ),
        "max-herding": Entry(
            "most Σ_x max_l κ(x, l) with a Gaussian κ, greedily",
            "The same, without a radius; κ compares directions, too.",
        ),
    },
    "Baseline": {
        "random": Entry(
            "k draws from the pool, each as likely as another",
            "Always beside others: what does not beat it is not worth its cost.",
        ),
    },
    "As in the released code of the DFAL paper": {
        "dfal-released": Entry(
            "as `dfal`, with at most 10 steps and no overshoot", "To reproduce the paper's code."
        ),
        "uncertainty-released": Entry(
            "as `entropy`, where 0 · log 0 is NaN and ranks first", "To see what the fault does."
        ),
        "ceal-released": Entry("as `entropy`: no pseudo-labels", "To see what the fault does."),
        "core-set-released": Entry(
            "as `core-set` on class probabilities in place of features",
            "To see what the fault does.",
        ),
        "egl-released": Entry("the k largest ‖mean_y ∇_θ ℓ(x, y)‖₂", "To see what the fault does."),
    },
}
"""Every strategy of the registry, in groups."""

HEAD = """\
# Gallery of query strategies

Every strategy of `dfal strategies` on the same 150 points in three bent arms, one for each class.
Nine of them are labelled (coloured), and a network was trained on these nine. Regions show what it
predicts. Each strategy selects 12 points; the numbers are the order. A cross is an adversarial
twin: the point after the smallest change that alters its predicted class, which is trained on as
well.

The points show what a strategy looks for, not how good it is: that is under
[Results](results.md#every-strategy-on-mnist-5k-to-300-annotations). In formulas, p are the class
probabilities, p₁ and p₂ the largest two, φ the features before the last layer, k the number of
points to select. Settings, costs and sources of all strategies are in [one table
each](strategies.md). This page is made by `python docs/gallery.py`.
"""


def start() -> Plane:
    """Return the pool of all pictures, and its network."""
    return Plane.start(150, 3, 4, dropout_network)


def query(state: Plane, name: str) -> dfal.Query:
    """Return what a strategy selects."""
    rng = dfal.generator(0, 0, "select")
    return named(name)(state.model, state.pool, QUERIED, rng)


def apart(points: NDArray[np.float64], gap: float = 0.19) -> NDArray[np.float64]:
    """Return a place for the number of each point, no two nearer to each other than a gap."""
    angle = 2.4 * np.arange(len(points))  # a different way for each, so that equal points part
    places = points + 1e-3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    for _ in range(500):
        way = places[:, None] - places[None]
        length = np.linalg.norm(way, axis=-1) + np.eye(len(points)) * gap
        places = places + (way / length[..., None] * (gap - length).clip(0)[..., None]).sum(1) / 4
    return places


def draw(state: Plane, name: str) -> None:
    """Draw what a strategy selects, and in what order."""
    selected = query(state, name)
    points = state.x[selected.indices]
    with drawing(3.9, 3.9) as figure:
        axes = plane(figure.subplots(), name, (-1.5, 1.5))
        Boundary.of(state.model, 100).draw(axes, GREY)
        axes.scatter(*state.x[state.pool.unlabelled].T, s=5, color=GREY)
        labelled = state.pool.labelled
        scatter(axes, state.x[labelled], state.y[labelled], 20)
        if selected.twins is not None:
            axes.scatter(*selected.twins.T, s=40, marker="x", color=PINK, zorder=3)
        numbers = apart(points.double().numpy())
        for (x, y), place in zip(points.tolist(), numbers, strict=True):
            axes.plot([x, place[0]], [y, place[1]], color=INK, linewidth=0.8, zorder=3)
        axes.scatter(*points.T, s=16, color=INK, zorder=3)
        axes.scatter(*numbers.T, s=135, color=PAPER, edgecolor=INK, linewidth=0.9, zorder=4)
        for number, (x, y) in enumerate(numbers.tolist(), 1):
            style = {"ha": "center", "va": "center_baseline", "fontsize": 8.5, "zorder": 5}
            axes.text(x, y, str(number), **style)
    order = ", ".join(str(index) for index in selected.indices.tolist())
    about = STRATEGIES.about(name) if name in STRATEGIES else "margin with adversarial twins"
    write(
        f"strategies/{name.replace('+', '-')}",
        figure,
        f"The points that {name} selects",
        f"Three bent arms of grey points and regions of three classes; numbered circles are what"
        f" {name} selects: {about}. Selected: {order}.",
    )


def _settings(name: str) -> str:
    strategy = named(name)
    fields = dataclasses.fields(strategy)  # type: ignore[arg-type]
    texts = [f"`{field.name}` = {short_repr(getattr(strategy, field.name))}" for field in fields]
    return ", ".join(texts) or "none"


def _section(name: str, entry: Entry) -> str:
    strategy = named(name)
    about = STRATEGIES.about(name) if name in STRATEGIES else "what `margin` queries, plus twins"
    kind = type(strategy)
    rows = {
        "Selects": entry.selects,
        "Use it when": entry.when,
        "Cost": section(kind, "Cost"),
        "Settings": _settings(name),
        "Source": section(kind, "Source"),
        "Use": f"`dfal run --strategy {name}`",
    }
    picture = f"pictures/strategies/{name.replace('+', '-')}.svg"
    lines = [f"| {what} | {text.replace('|', chr(92) + '|')} |" for what, text in rows.items()]
    return "\n\n".join(
        [
            f"### {name}",
            f"{about[0].upper()}{about[1:]}.",
            f"![The points that {name} selects, numbered in their order]({picture})",
            "\n".join(["| | |", "|---|---|", *lines]),
        ]
    )


def page() -> str:
    """Return the page as the registry has it now.

    Raises:
        SystemExit: for a strategy without an entry, or an entry without a strategy.
    """
    entries = [name for group in GALLERY.values() for name in group]
    if missing := set(STRATEGIES) - set(entries):
        raise SystemExit(f"add to GALLERY in docs/gallery.py: {', '.join(sorted(missing))}")
    parts = [HEAD.strip()]
    for group, members in GALLERY.items():
        parts += [f"## {group}", *(_section(name, entry) for name, entry in members.items())]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page and the pictures, or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    made = page()
    stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made
    if check:
        if stale:
            print(f"docs/{PAGE.name} is stale: run python docs/gallery.py")
        return int(stale)
    PAGE.write_text(made, encoding="utf-8")
    torch.set_num_threads(1)
    state = start()
    for old in (PICTURES / "strategies").glob("*.svg"):
        old.unlink()
    for group in GALLERY.values():
        for name in group:
            draw(state, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
