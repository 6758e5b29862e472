"""A study as one self-contained page: curves, tables, what was asked about, and adversarial
twins."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import torch
from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.studies import titles
from dfal.analysis.tables import signed
from dfal.atomic import atomic_write
from dfal.damage import damage
from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.data.pictures import to_picture
from dfal.errors import DfalError
from dfal.experiments.provenance import place_in
from dfal.experiments.store import Record, Store
from dfal.reporting import figures
from dfal.reproduce import StoredResults
from dfal.reproduce.ranking import ranking
from dfal.reproduce.table1 import seconds
from dfal.stats.sampling import evenly_spaced
from dfal.strategies import DFAL

SHOWN = 1800
"""Asked images shown in a study, at most; the report says how many are left out."""
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


def charts(found: StoredResults) -> dict[str, figures.Chart]:
    """Every figure of the page, by its title."""
    made = {}
    for study in found.main if found.reproduced else ():
        settings = study.settings
        published = reproduce.paper.curves(settings.dataset, settings.model)
        about = f"{settings.dataset}, {settings.model}, {settings.annotations} annotations"
        made[f"Figure 2: {about}"] = figures.beside_paper(
            study, published, found.full_accuracy(study)
        )
    for setting, lines in reproduce.figure3.series(found).items():
        made[f"Figure 3: {setting}"] = figures.transfers(
            lines, reproduce.figure3.published(setting)
        )
    if found.reproduced and (ranks := ranking(found)):
        made["Ranks"] = figures.ranking(ranks.names, ranks.ranks)
    for title, study in zip(titles(found.studies), found.studies, strict=True):
        made[f"Learning curves: {title}"] = figures.curves(study)
        if any(one.seeds > 1 for one in study.comparisons):
            made[f"Differences: {title}"] = figures.differences(study.comparisons)
    return made


def write(store: Store, found: StoredResults, path: Path, at: Sequence[int] = ()) -> Path:
    """Write the page of a store, with tables at the budgets `at`; an older page is replaced when
    the new one is whole.

    Raises:
        DfalError: where the page cannot be written.
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
    }
    drawn = {title: Markup(chart.svg) for title, chart in charts(found).items()}  # noqa: S704
    named = zip(titles(found.studies), found.studies, strict=True)
    sections = [_section(store, title, study, at, drawn) for title, study in named]
    paper = _paper(found, drawn) if found.reproduced else None
    template = environment.get_template("report.html")
    with damage(f"the store {store.path}"):  # what is known of a run may not be there
        page = template.render(
            sections=sections, paper=paper, runs=store.environments(), store=store.path.name
        )
    with atomic_write(path, "name another with --out", "the report") as part:
        part.write_text(page, encoding="utf-8")
    return path


def _paper(found: StoredResults, drawn: Mapping[str, Markup]) -> dict[str, object]:
    """What the template says of the paper: its claims, its figures drawn over ours, its tables
    beside ours."""
    return {
        "verdicts": reproduce.verdicts(found),
        "figures": [(title, svg) for title, svg in drawn.items() if title.startswith("Figure")],
        "tables": reproduce.tables(found),
        "ranking": ranking(found),
        "ranks": drawn.get("Ranks", ""),
        "oddities": reproduce.paper.ODDITIES,
        "undecided": reproduce.UNDECIDED,
        "parts": sorted(
            {
                study.settings.dataset
                for study in found.main
                if reproduce.paper.is_part(study.settings.dataset)
            }
        ),
    }


def _section(
    store: Store, title: str, study: Study, at: Sequence[int], drawn: Mapping[str, Markup]
) -> dict[str, object]:
    """What the template says of one study."""
    data, missing = _data(store, study.settings.dataset)
    budgets = study.budgets(8, at)
    accuracies, *differences = comparison.tables(title, study, budgets)
    rows = []
    for curve, colour in zip(study.curves, map(figures.css, figures.colours(study)), strict=True):
        asked, twins = list[Asked](), list[Twin]()
        if data:
            with damage(f"the store {store.path}"):
                asked = _asked(curve, data, SHOWN // len(study.curves))
                twins = _twins(store.records(curve.trials[0].id), data)
        rows.append(
            {
                "curve": curve,
                "colour": colour,
                "seconds": seconds(float(curve.seconds.mean())),
                "asked": asked,
                "questions": sum(len(record.answers) for record in curve.records[0]),
                "twins": twins,
            }
        )
    comparisons, few = study.comparisons, len(study.curves) <= figures.MANY
    return {
        "title": title,
        "study": study,
        "accuracies": accuracies,
        "rows": rows,
        "figure": drawn[f"Learning curves: {title}"],
        "bands": few,
        "comparisons": comparisons,
        "told": [
            one for one in comparisons if few or isinstance(one.curve.trials[0].strategy, DFAL)
        ],
        "apart": differences[0] if differences else None,
        "differences": drawn.get(f"Differences: {title}", ""),
        "missing": missing,
    }


def _data(store: Store, name: str) -> tuple[Dataset | None, str]:
    """The images that a store's trials asked about; or why there are none: other data have other
    pictures at its indices."""
    try:
        data = datasets.load(place_in(store, name) or name)
    except DfalError as error:
        return None, str(error)
    for run in store.environments():
        if run["data"].get(name, data.fingerprint) != data.fingerprint:
            return None, f"the data set {name} is not the one that this store was made with"
    return data, ""


def _asked(curve: Curve, data: Dataset, shown: int) -> list[Asked]:
    """What the first seed asked about, in order."""
    asked: list[Asked] = []
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
        asked += [
            Asked(
                _png(image),
                _name(data, label),
                _name(data, seen),
                int(index),
                record.round,
                float(score),
            )
            for image, label, seen, index, score in rows
        ]
        if len(asked) >= shown:
            break
    return asked[:shown]


def _twins(records: Sequence[Record], data: Dataset) -> list[Twin]:
    """The farthest twin of some rounds, spread over the whole trial."""
    records = [record for record in records if record.query.twins is not None]
    return [_twin(records[place], data) for place in evenly_spaced(len(records), TWINS)]


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
    """An image in [0, 1] as the address of a PNG inside the page: grey or colour; values outside
    are cut off."""
    file = io.BytesIO()
    to_picture(image).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
