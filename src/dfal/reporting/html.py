"""A store as one self-contained page: curves, tables, queried images and adversarial twins."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.outcome import outcome, outcomes, seeds_advice
from dfal.analysis.studies import titles
from dfal.analysis.tables import format_p, format_seconds, signed
from dfal.atomic import atomic_write
from dfal.damage import damage
from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.data.pictures import to_picture
from dfal.data.sources.addresses import is_path
from dfal.errors import DfalError
from dfal.experiments.provenance import place_in
from dfal.experiments.store import Record, Store
from dfal.reporting import figures, paper_figures
from dfal.reporting.chart import SCREEN, Chart, Layout, colours, css
from dfal.reproduce import StoredResults
from dfal.reproduce.ranking import ranking
from dfal.stats.sampling import evenly_spaced
from dfal.strategies import DFAL

MAX_QUERIED = 1800
"""Queried images of a study, at most; the page says how many are left out."""
MAX_TWINS = 6
"""Adversarial twins of a strategy, at most."""
MAX_BUDGETS = 8
"""Budgets of a table, at most."""


@dataclass(frozen=True)
class Queried:
    """A queried image, as the page shows it."""

    picture: str
    label: str
    seen: str
    index: int
    round: int
    score: float


@dataclass(frozen=True)
class Twin:
    """An image, its perturbation and its adversarial twin, as the page shows them."""

    image: str
    perturbation: str
    twin: str
    label: str
    seen: str
    twin_seen: str
    distance: float
    magnified: float
    annotations: int


@dataclass(frozen=True)
class Figure:
    """A chart as the page has it."""

    svg: Markup
    caption: str


def charts(results: StoredResults, layout: Layout = SCREEN) -> dict[str, Chart]:
    """Draw every figure of the page, by its title."""
    drawn = {}
    for study in results.main if results.reproduced else ():
        settings = study.settings
        published = reproduce.paper.curves(settings.dataset, settings.model)
        about = f"{settings.dataset}, {settings.model}, {settings.annotations} annotations"
        drawn[f"Figure 2: {about}"] = paper_figures.paper_curves(
            study, published, results.full_accuracy(study), layout
        )
    for setting, lines in reproduce.figure3.series(results).items():
        drawn[f"Figure 3: {setting}"] = paper_figures.transfers(
            lines, reproduce.figure3.published(setting), layout
        )
    if results.reproduced and (ranks := ranking(results)):
        drawn["Ranks"] = paper_figures.ranking(ranks.names, ranks.ranks, layout)
    for title, study in zip(titles(results.studies), results.studies, strict=True):
        drawn[f"Learning curves: {title}"] = figures.curves(study, layout)
        if any(comparison.seeds > 1 for comparison in study.comparisons):
            drawn[f"Differences: {title}"] = figures.differences(study.comparisons, layout)
    return drawn


def write(store: Store, results: StoredResults, path: Path, at: Sequence[int] = ()) -> Path:
    """Write the page of a store; an older page is replaced when the new one is complete.

    Args:
        store: an open store.
        results: what was read from it.
        path: the file to write.
        at: the budgets of the tables; by default some, evenly spread.

    Raises:
        DfalError: if the page cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dfal.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda fraction, digits=1: f"{100 * fraction:.{digits}f}",
        "signed": signed,
        "p_value": format_p,
        "seeds_advice": seeds_advice,
    }
    drawn = {
        title: Figure(Markup(chart.svg), chart.caption)  # noqa: S704
        for title, chart in charts(results).items()
    }
    named = zip(titles(results.studies), results.studies, strict=True)
    sections = [_section(store, title, study, at, drawn) for title, study in named]
    paper = _paper(results, drawn) if results.reproduced else None
    template = environment.get_template("report.html")
    with damage(f"the store {store.path}"):  # a run's description may lack something
        page = template.render(
            sections=sections, paper=paper, runs=store.environments(), store=store.path.name
        )
    with atomic_write(path, "name another with --out", "the report") as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _paper(results: StoredResults, drawn: Mapping[str, "Figure"]) -> dict[str, object]:
    """Return what the template shows of the paper: claims, figures and tables with our results."""
    return {
        "verdicts": reproduce.verdicts(results),
        "figures": [(title, one) for title, one in drawn.items() if title.startswith("Figure")],
        "tables": reproduce.tables(results),
        "ranking": ranking(results),
        "ranks": drawn.get("Ranks"),
        "outcomes": outcomes(results.main),
        "oddities": reproduce.paper.ODDITIES,
        "undecided": reproduce.UNDECIDED,
        "parts": sorted(
            {
                study.settings.dataset
                for study in results.main
                if reproduce.paper.is_part(study.settings.dataset)
            }
        ),
    }


def _section(
    store: Store, title: str, study: Study, at: Sequence[int], drawn: Mapping[str, "Figure"]
) -> dict[str, object]:
    """Return what the template shows of one study."""
    data, missing = _data(store, study.settings.dataset)
    budgets = study.budgets(MAX_BUDGETS, at)
    accuracies, *differences = comparison.tables(title, study, budgets)
    rows = list[dict[str, Any]]()
    for curve, colour in zip(study.curves, map(css, colours(study)), strict=True):
        queried, twins = list[Queried](), list[Twin]()
        if data:
            with damage(f"the store {store.path}"):
                queried = _queried(curve, data, MAX_QUERIED // len(study.curves))
                twins = _twins(store.records(curve.trials[0].id), data)
        rows.append(
            {
                "curve": curve,
                "colour": colour,
                "seconds": format_seconds(float(curve.seconds.mean())),
                "queried": queried,
                "queries": sum(len(record.answers) for record in curve.records[0]),
                "twins": twins,
            }
        )
    comparisons, few = study.comparisons, len(study.curves) <= figures.MAX_BANDS
    return {
        "title": title,
        "outcome": outcome(study),
        "study": study,
        "accuracies": accuracies,
        "rows": rows,
        "figure": drawn[f"Learning curves: {title}"],
        "comparisons": comparisons,
        "summaries": [
            comparison
            for comparison in comparisons
            if few or isinstance(comparison.curve.trials[0].strategy, DFAL)
        ],
        "difference_table": differences[0] if differences else None,
        "differences": drawn.get(f"Differences: {title}"),
        "missing": missing,
        "missed": any(one.seen != one.label for row in rows for one in row["queried"]),
        "twinned": any(one.reference is not study.baseline for one in comparisons),
    }


def _data(store: Store, name: str) -> tuple[Dataset | None, str]:
    """Return the data set of a store's trials, or the reason why its pictures are missing.

    Another data set than that of the trials has other pictures at their indices. A store may name
    no code to run and no address to fetch: what is in no file or folder here is shown only where
    this process has loaded it before.
    """
    if not (name in datasets.DATASETS or is_path(name) or name in datasets.LOADED):
        return None, f"{name} is in no file or folder here: the page of `dfal run` shows them"
    try:
        data = datasets.load(place_in(store, name) or name)
    except DfalError as error:
        return None, str(error)
    for run in store.environments():
        if run["data"].get(name, data.fingerprint) != data.fingerprint:
            return None, f"the data set {name} is not the one that this store was made with"
    return data, ""


def _queried(curve: Curve, data: Dataset, most: int) -> list[Queried]:
    """Return the first queried images of the first seed, in order."""
    queried: list[Queried] = []
    for record in curve.records[0]:
        images = data.images.take(record.query.indices)
        rows = zip(
            images,
            record.answers,
            record.seen,
            record.query.indices,
            record.query.scores,
            strict=True,
        )
        queried += [
            Queried(
                _png(image),
                _name(data, label),
                _name(data, seen),
                int(index),
                record.round,
                float(score),
            )
            for image, label, seen, index, score in rows
        ]
        if len(queried) >= most:
            break
    return queried[:most]


def _twins(records: Sequence[Record], data: Dataset) -> list[Twin]:
    """Return the farthest twin of some rounds, evenly spread over the trial.

    Twins of features, and of images of another size, are no pictures of these data.
    """
    records = [
        record
        for record in records
        if record.query.twins is not None and record.query.twins.shape[1:] == data.images.shape
    ]
    return [_twin(records[place], data) for place in evenly_spaced(len(records), MAX_TWINS)]


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
    """Return a grey or colour image in [0, 1] as the address of a PNG inside the page."""
    file = io.BytesIO()
    to_picture(image).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
