"""The results of a store: tables on the terminal, JSON, a page and files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import refuse_unmeasured
from dfal.analysis.outcome import outcomes
from dfal.analysis.rows import Kind
from dfal.analysis.studies import titles, write_csv
from dfal.analysis.tables import Table, Verdict
from dfal.cli import output
from dfal.cli.options import STDOUT
from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.reporting import html, latex, latex_csv, terminal
from dfal.reporting.chart import LAYOUTS
from dfal.reproduce import StoredResults


def page_of(store: Path) -> Path:
    """Return where the page of a store is written: stores of one folder have a page each."""
    return store.with_name("report.html" if store.name == "study.db" else f"{store.stem}.html")


def show(
    path: Path,
    *,
    out: Path | None = None,
    csv: Path | None = None,
    queries: Path | None = None,
    tables_folder: Path | None = None,
    figures: Path | None = None,
    figure_width: str = "page",
    at: Sequence[int] = (),
    targets: Sequence[float] = (),
    against: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Print the results of a store and write its page.

    Args:
        path: the store.
        out: the page; None for the one next to the store.
        csv: a file for every measurement.
        queries: a file for every queried image.
        tables_folder: a folder for the tables as LaTeX and CSV.
        figures: a folder for the figures as PDF and SVG.
        figure_width: what they are as wide as, a name of `chart.LAYOUTS`.
        at: budgets to show; none for some.
        targets: accuracies as fractions, of which the labels to reach them are shown.
        against: the strategy with which all are compared.
        as_json: whether to print JSON in place of tables.
        quiet: whether to print nothing.

    Raises:
        DfalError: for a store without a finished round, a budget that was not measured, and a file
            that cannot be written.
    """
    if path.is_dir():
        where = f", {path / 'study.db'}" if (path / "study.db").is_file() else ""
        raise DfalError(f"{path} is a folder: name the store in it{where}")
    page = out or page_of(path)
    for file in (page, csv, queries):
        if file and file.resolve() == path.resolve():
            raise DfalError(f"{file} is the store itself: name another file to write")
    if [out, csv, queries, STDOUT if as_json else None].count(STDOUT) > 1:
        raise DfalError(
            "only one of --out, --csv, --queries and --json can be standard output: name a file"
        )
    with Store(path) as store:
        results = reproduce.read_results(store, against)
        if results.empty:
            raise DfalError(f"{path} holds no finished round yet: wait for one")
        refuse_unmeasured(results.studies, at)
        studies = (dataclasses.replace(study, targets=tuple(targets)) for study in results.studies)
        results = dataclasses.replace(results, studies=tuple(studies))
        write_rows(results, {"measurements": csv, "queries": queries})
        if tables_folder:
            write_tables(tables_folder, results, at)
        if figures:
            latex_csv.write_figures(figures, html.charts(results, LAYOUTS[figure_width]))
        with output.output_file(page) as file:
            html.write(store, results, file, at)
        if as_json:
            tables = [*_own_tables(results, at), *reproduce.tables(results)]
            print_results(
                path, page, tables, reproduce.verdicts(results), outcomes(results.studies)
            )
            return
        if quiet or STDOUT in {page, csv, queries}:
            return
        output.print_lines(*outcomes(results.studies))
        for title, study in zip(titles(results.studies), results.studies, strict=True):
            for table in terminal.study_tables(title, study, at, output.width()):
                output.print_table(table)
    print_paths(path, page)


def write_rows(results: StoredResults, files: Mapping[Kind, Path | None]) -> None:
    """Write the rows of each kind to its CSV file, where there is one."""
    for kind, path in files.items():
        if path:
            with output.output_file(path) as file:
                write_csv([*results.studies, *results.full], file, kind)


def print_paths(store: Path, page: Path) -> None:
    """Print where a page and its store are."""
    output.print_lines(f"{output.heading('Report')} {page}", f"{output.heading('Store ')} {store}")


def print_results(
    store: Path,
    page: Path,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict],
    outcomes: Sequence[str],
) -> None:
    """Print tables, verdicts and outcomes as JSON: docs/scripts.md says what the keys are."""
    output.print_json(
        {
            "store": store,
            "report": None if page == STDOUT else page,
            "outcomes": outcomes,
            "tables": [
                {
                    "name": table.name,
                    "title": table.title,
                    "caption": table.caption,
                    "cells": [
                        {"row": row, "column": column, **_cell(cell)}
                        for row, cells in table.rows
                        for column, cell in zip(table.head, cells, strict=True)
                    ],
                }
                for table in tables
            ],
            "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts],
        }
    )


def _cell(cell: Any) -> dict[str, Any]:
    return {
        "value": cell.value,
        "low": cell.low,
        "high": cell.high,
        "interval": cell.interval,
        "p": cell.p,
        "text": f"{cell.ours} {cell.spread}".strip(),
        "paper": cell.paper,
    }


def write_tables(folder: Path, results: StoredResults, at: Sequence[int] = ()) -> None:
    """Write every table that a store has something for as LaTeX and CSV."""
    tables = [*_own_tables(results, at), *reproduce.tables(results)]
    latex_csv.write(folder, tables, reproduce.verdicts(results))


def _own_tables(results: StoredResults, at: Sequence[int]) -> list[Table]:
    """Return the tables of each study, without those of the paper."""
    return [
        table
        for title, study in zip(titles(results.studies), results.studies, strict=True)
        for table in comparison.tables(title, study, study.budgets(latex.MAX_BUDGETS, at))
    ]
