"""A study as tables for the terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from dfal.datasets import Card, Dataset
from dfal.datasets.download import recorded
from dfal.results import Comparison, Curve, Study
from dfal.statistics import half_width

WIDE = 5
"""Strategies that have room side by side."""


def of(title: str, study: Study, at: Sequence[int], width: int) -> list[Table]:
    """The accuracies at the budgets `at`, or at as many as `width` characters have room for; with several seeds, which
    differences between strategies are real."""
    room = 12 if len(study.curves) <= WIDE else max(2, (width - 63) // 14)
    comparisons = study.comparisons if len(study.curves[0].trials) > 1 else []
    return [_accuracies(title, study, study.budgets(room, at)), *([_differences(comparisons)] if comparisons else [])]


def _accuracies(title: str, study: Study, budgets: Sequence[int]) -> Table:
    """Accuracies at each budget, and what sums them up: strategies side by side, or one below the other where they are many."""
    seeds = max(len(curve.trials) for curve in study.curves)
    several = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    area = "mean accuracy over the budgets" + (" ± half of its 95 % t interval" if seeds > 1 else "")
    table = Table(
        title=f"{title}: test accuracy in %, {several}",
        caption="annotations: answers bought, the first ones included; labelled data: images trained on at the end, twins too; "
        f"area: {area}; to match random: annotations for the last accuracy of random choice",
    )
    header = [curve.name + ("" if curve.finished else "\n(unfinished)") for curve in study.curves]
    rows = [(str(budget), [_accuracy(curve, budget) for curve in study.curves]) for budget in budgets]
    rows.append(("labelled data", [f"{curve.labelled_data[-1]:.0f}" for curve in study.curves]))
    rows.append(("area", [_area(curve) for curve in study.curves]))
    if (baseline := study.baseline) is not None:
        needed = [None if curve is baseline else curve.needed(float(baseline.mean[-1])) for curve in study.curves]
        rows.append(("to match random", ["–" if one is None else str(one) for one in needed]))
    wide = len(study.curves) > WIDE
    if wide:
        lines = [list(line) for line in zip(header, *(cells for _, cells in rows), strict=True)]
        header, rows = [name for name, _ in rows], [(line[0], line[1:]) for line in lines]
    table.add_column("strategy" if wide else "annotations", justify="left" if wide else "right", no_wrap=wide)
    for name in header:
        table.add_column(name.replace(" ", "\n"), justify="right")
    for place, (name, cells) in enumerate(rows):
        table.add_row(name, *cells, end_section=not wide and place == len(budgets) - 1)
    return table


def _accuracy(curve: Curve, budget: int) -> str:
    place = curve.annotations.tolist().index(budget)
    mean, spread = 100 * curve.mean[place], 100 * curve.spread[place]
    return f"{mean:.1f} ± {spread:4.1f}" if len(curve.trials) > 1 else f"{mean:.1f}"


def _area(curve: Curve) -> str:
    mean = f"{100 * curve.area.mean():.2f}"
    return f"{mean} ± {100 * half_width(curve.area):.2f}" if len(curve.trials) > 1 else mean


def _differences(comparisons: Sequence[Comparison]) -> Table:
    table = Table(
        title="Difference of areas in points of accuracy, over paired seeds",
        caption="± half of the 95 % t interval; p: paired t-test, Holm's correction for all rows",
    )
    for heading in ("strategy", "compared with", "difference", "p"):
        table.add_column(heading, justify="left" if heading in {"strategy", "compared with"} else "right")
    for one in comparisons:
        difference = f"{100 * one.gain:+.2f} ± {100 * one.half_width:.2f}"
        table.add_row(one.curve.name, one.reference.name, difference, f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001")
    return table


def of_card(card: Card, whole: bool = False) -> Table:
    """A data set in a few lines, or all that is known of it."""
    where = card.where()
    size = "nothing to download" if card.download is None else f"{card.download / 1e6:,.1f} MB to download"
    lines = {
        "images": f"{card.pool:,} to ask about, {card.test:,} to test on, {'×'.join(map(str, card.image))} pixels; {size}",
        "here": str(where or "no") + (f": {card.get}" if where is None and card.get else ""),
        "from": f"{card.origin}; licence: {card.licence}",
    }
    if whole:
        sums = card.sums or {file: f"SHA-256 {sha256}, recorded at first use" for file, sha256 in recorded(card.name).items()}
        lines |= {
            "classes": ", ".join(card.classes),
            "test set": card.split,
            "checksum": "\n".join(f"{file}: {value}" for file, value in sums.items())
            or "none is published; that of the first download is recorded",
        }
        if card.download is None and not sums:
            lines.pop("checksum")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.title, table.title_justify, table.title_style = f"[bold]{card.name}[/bold]: {card.about}", "left", ""
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    for heading, line in lines.items():
        table.add_row(heading, escape(line))
    table.add_row("", "")
    return table


def of_dataset(name: str, data: Dataset) -> Table:
    """What a data set without a card holds: images of each class."""
    table = Table(title=f"{escape(name)}: {'×'.join(map(str, data.images.shape))} pixels")
    for heading in ("class", "to ask about", "to test on"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for label, one in enumerate(data.classes):
        table.add_row(escape(one), f"{int((data.labels == label).sum()):,}", f"{int((data.test_labels == label).sum()):,}")
    table.add_row("all", f"{len(data.labels):,}", f"{len(data.test_labels):,}")
    return table
