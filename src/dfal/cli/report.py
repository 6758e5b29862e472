"""dfal report: the tables and the page of a store."""

from collections.abc import Sequence
from pathlib import Path

import click

from dfal import reproduce
from dfal.analysis import comparison
from dfal.analysis.learning_curves import refuse_unmeasured
from dfal.analysis.outcome import outcomes
from dfal.analysis.studies import titles, write_csv
from dfal.cli import output
from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.reporting import html as page
from dfal.reporting import latex_csv, terminal
from dfal.reproduce import StoredResults


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The page to write.  [default: beside the store, with its name; report.html for study.db]",
)
@click.option(
    "--csv",
    type=click.Path(path_type=Path),
    help="Also write every measurement as a row of this file.",
)
@click.option(
    "--tables",
    "tables_",
    type=click.Path(path_type=Path),
    help="Also write all tables as LaTeX and CSV to this folder.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    help="Also write all figures as PDF and SVG to this folder.",
)
@click.option(
    "--at", help="Budgets to show, in annotations, with commas.  [default: some, evenly spread]"
)
@click.option(
    "--against",
    metavar="STRATEGY",
    help=(
        "Compare every strategy with this one.  [default: random; those with twins also with the"
        " same without]"
    ),
)
def report(  # noqa: PLR0917
    store: Path,
    out: Path | None,
    csv: Path | None,
    tables_: Path | None,
    figures: Path | None,
    at: str | None,
    against: str | None,
) -> None:
    """Print the tables of a STORE and write its page, with the paper's numbers beside ours where it
    has them.

    It may be the store of a run that still goes on.
    """
    budgets = (at or "").split(",") if at else []
    if not all(budget.strip().isdecimal() for budget in budgets):
        raise DfalError(
            f"--at {at!r} is no list of annotations: give whole numbers with commas, like"
            " 100,500,1000"
        )
    at_budgets = [int(budget) for budget in budgets]
    show(store, out=out, csv=csv, exported=tables_, figures=figures, at=at_budgets, against=against)


def page_of(store: Path) -> Path:
    """Where the page of a store is written: stores of one folder have a page each."""
    return store.with_name("report.html" if store.name == "study.db" else f"{store.stem}.html")


def write_tables(folder: Path, found: StoredResults, at: Sequence[int] = ()) -> None:
    """Write every table that a store has something for."""
    named = zip(titles(found.studies), found.studies, strict=True)
    own = [
        made
        for title, study in named
        for made in comparison.tables(title, study, study.budgets(terminal.MAX_BUDGETS, at))
    ]
    latex_csv.write(folder, [*own, *reproduce.tables(found)], reproduce.verdicts(found))


def _spare_store(store: Path, *written: Path | None) -> None:
    for path in written:
        if path and path.resolve() == store.resolve():
            raise DfalError(f"{path} is the store itself: name another file to write")


def show(
    path: Path,
    *,
    out: Path | None = None,
    csv: Path | None = None,
    exported: Path | None = None,
    figures: Path | None = None,
    at: Sequence[int] = (),
    against: str | None = None,
) -> None:
    """Print the tables of a store and write its page."""
    if path.is_dir():
        where = f", {path / 'study.db'}" if (path / "study.db").is_file() else ""
        raise DfalError(f"{path} is a folder: name the store in it{where}")
    _spare_store(path, out or page_of(path), csv)
    with Store(path) as store:
        found = reproduce.read_results(store, against)
        if found.empty:
            raise DfalError(f"{path} holds no finished round yet: let it go on first")
        refuse_unmeasured(found.studies, at)
        for sentence in outcomes(found.studies):
            output.console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        for title, study in zip(titles(found.studies), found.studies, strict=True):
            for table in terminal.study_tables(title, study, at, output.console.width):
                output.console.print(table)
        if csv:
            write_csv([*found.studies, *found.full], csv)
        if exported:
            write_tables(exported, found, at)
        if figures:
            latex_csv.write_figures(figures, page.charts(found))
        written = page.write(store, found, out or page_of(path), at)
    output.console.print(
        f"[bold]Report[/bold] {written}\n[bold]Store [/bold] {path}", soft_wrap=True
    )
