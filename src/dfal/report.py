"""A study as one self-contained page: curves, tables, what was asked about, and adversarial twins."""

import base64
import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import torch
from jaxtyping import Float
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from dfal import datasets, reproduce
from dfal.datasets import Dataset
from dfal.reproduce import Shelf
from dfal.results import Comparison, Curve, Study, titles
from dfal.statistics import half_width
from dfal.store import Record, Store
from dfal.types import DfalError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers (Okabe & Ito)."""
LINES = ("-", "--", ":", "-.")
"""Told apart where colours come again."""
GREY = "#7f7f7f"
"""Random choice, which the others are compared with."""
SHOWN = 1800
"""Asked images shown in a study, at most; the report says how many are left out."""
MANY = 8
"""With more curves than this bands would hide each other."""
TWINS = 6
"""Twins shown for a strategy."""


@dataclass(frozen=True)
class Asked:
    """An image that was asked about, in the words of the page."""

    picture: str
    label: str
    seen: str
    index: int
    round: int
    score: float


@dataclass(frozen=True)
class Twin:
    """An image, its perturbation and its twin, in the words of the page."""

    image: str
    perturbation: str
    twin: str
    label: str
    seen: str
    twin_seen: str
    distance: float
    magnified: float
    annotations: int


def write(store: Store, found: Shelf, path: Path, at: Sequence[int] = ()) -> Path:
    """Write the page of a store, with tables at the budgets `at`; an older page is replaced when the new one is whole.

    Raises:
        DfalError: where the page cannot be written.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("dfal"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": lambda fraction, digits=1: f"{100 * fraction:.{digits}f}"}
    page = environment.get_template("report.html").render(
        sections=[_section(store, title, study, at) for title, study in zip(titles(found.studies), found.studies, strict=True)],
        tables=reproduce.tables(found),
        verdicts=reproduce.verdicts(found),
        runs=store.environments(),
        store=store.path.name,
    )
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DfalError(f"the report {path} cannot be written ({error.strerror}): name another with --out") from None
    return path


def _section(store: Store, title: str, study: Study, at: Sequence[int]) -> dict[str, object]:
    """What the template says of one study."""
    data: Dataset | None
    try:
        data, missing = datasets.load(study.settings.dataset), ""
    except DfalError as error:
        data, missing = None, str(error)
    budgets = study.budgets(8, at)
    baseline = study.baseline
    rows = []
    for curve, colour in zip(study.curves, _colours(study), strict=True):
        places = {budget: place for place, budget in enumerate(curve.annotations.tolist())}
        costs = [
            sum(record.costs.get(name, 0) for name in ("fit", "select")) for records in curve.records for record in records
        ]
        rows.append(
            {
                "curve": curve,
                "colour": colour,
                "cells": [(float(curve.mean[places[budget]]), float(curve.spread[places[budget]])) for budget in budgets],
                "needed": curve.needed(float(baseline.mean[-1])) if baseline and baseline is not curve else None,
                "half_width": half_width(curve.area),
                "seconds": sum(costs) / len(curve.trials),
                "asked": _asked(curve, data, SHOWN // len(study.curves)) if data else [],
                "questions": sum(len(record.answers) for record in curve.records[0]),
                "twins": _twins(store.records(curve.trials[0].id), data) if data else [],
            }
        )
    comparisons = study.comparisons
    return {
        "title": title,
        "study": study,
        "budgets": budgets,
        "rows": rows,
        "figure": Markup(_figure(study)),  # noqa: S704
        "bands": len(study.curves) <= MANY,
        "comparisons": comparisons,
        "differences": Markup(_differences(comparisons)) if comparisons else "",  # noqa: S704
        "missing": missing,
    }


def _colours(study: Study) -> list[str]:
    colours = itertools.cycle(COLOURS)
    return [GREY if curve is study.baseline else next(colours) for curve in study.curves]


def _figure(study: Study) -> str:
    """The learning curves as SVG: means as lines, one standard deviation over the seeds as bands."""
    many = len(study.curves) > MANY
    with _drawing(6.0 if many else 4.6) as (figure, svg):
        axes = _axes(figure)
        for place, (curve, colour) in enumerate(zip(study.curves, _colours(study), strict=True)):
            x, mean, spread = curve.annotations, 100 * curve.mean, 100 * curve.spread
            if not many:
                axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
            style = LINES[place // len(COLOURS) % len(LINES)]
            marker = "o" if len(x) <= 30 and not many else None
            axes.plot(x, mean, style, color=colour, linewidth=2, marker=marker, markersize=3.5, label=curve.name)
        axes.set_xlabel("annotations (answers bought)")
        axes.set_ylabel("test accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        if many:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
        else:
            axes.legend(loc="lower right", frameon=False)
        return svg()


def _differences(comparisons: Sequence[Comparison]) -> str:
    """The differences of areas as SVG, the largest on top, with their 95 % intervals; filled where p < 0.05."""
    ordered = sorted(comparisons, key=lambda one: one.gain)
    with _drawing(0.8 + 0.24 * len(ordered)) as (figure, svg):
        axes = _axes(figure)
        axes.axvline(0, color=GREY, linewidth=1)
        for y, one in enumerate(ordered):
            middle, width = 100 * one.gain, 100 * one.half_width
            axes.plot([middle - width, middle + width], [y, y], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
            axes.plot(middle, y, "o", color=COLOURS[0], markersize=6, markerfacecolor=COLOURS[0] if one.p < 0.05 else "white")
        axes.set_yticks(range(len(ordered)), [f"{one.curve.name} − {one.reference.name}" for one in ordered])
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        axes.set_xlabel("difference of areas, points of accuracy")
        return svg()


@contextlib.contextmanager
def _drawing(height: float) -> Iterator[tuple[Figure, Callable[[], str]]]:
    """A figure of the page's width, and what makes SVG of it."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dfal", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(8.6, height), layout="constrained")

        def svg() -> str:
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            text = file.getvalue()
            return text[text.index("<svg") :]

        yield figure, svg


def _axes(figure: Figure) -> Axes:
    axes = figure.add_subplot()
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _asked(curve: Curve, data: Dataset, shown: int) -> list[Asked]:
    """What the first seed asked about, in order."""
    asked: list[Asked] = []
    for record in curve.records[0]:
        images = data.images.take(record.query.indices)
        rows = zip(images, record.answers, record.seen, record.query.indices, record.query.scores, strict=True)
        asked += [
            Asked(_png(image), _name(data, label), _name(data, seen), int(index), record.round, float(score))
            for image, label, seen, index, score in rows
        ]
        if len(asked) >= shown:
            break
    return asked[:shown]


def _twins(records: Sequence[Record], data: Dataset) -> list[Twin]:
    """The farthest twin of some rounds, spread over the whole trial."""
    records = [record for record in records if record.query.twins is not None]
    places = np.linspace(0, len(records) - 1, min(TWINS, len(records))).round().astype(int)
    return [_twin(records[place], data) for place in places]


def _twin(record: Record, data: Dataset) -> Twin:
    query = record.query
    if query.twins is None or query.twinned is None:
        raise ValueError("a record without twins")
    index = query.twinned[-1]
    at = int((query.indices == index).nonzero()[0])
    image, twin = data.images.take(index[None])[0], query.twins[-1]
    r = twin - image
    magnified = 0.5 / max(float(r.abs().max()), 1e-12)
    return Twin(
        _png(image),
        _png(0.5 + magnified * r),
        _png(twin),
        _name(data, record.answers[at]),
        _name(data, record.seen[at]),
        _name(data, record.twins_seen[-1]),
        float(torch.linalg.vector_norm(r)),
        magnified,
        int(record.measurements["annotations"]),
    )


def _name(data: Dataset, label: Tensor) -> str:
    return data.classes[int(label)]


def _png(image: Float[Tensor, "c h w"]) -> str:
    """An image in [0, 1] as the address of a PNG inside the page: grey or colour; values outside are cut off."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    picture = Image.fromarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else Image.fromarray(pixels[0])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
