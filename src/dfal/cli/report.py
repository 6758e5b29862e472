"""dfal report: the tables and the page of a store."""

from pathlib import Path

import click

from dfal.cli import completion
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, json_option, quiet_option
from dfal.errors import DfalError

tables_option = option(
    "--tables",
    "tables_folder",
    type=PATH,
    group="Files",
    help="Also write all tables as LaTeX and CSV to this folder.",
)


@click.command(
    cls=Command,
    examples=[
        ("the tables of a run, and its page", "report runs/2026-05-04-120000/study.db"),
        (
            "accuracy at two budgets, and the labels that reach 98.5 %; measurements as CSV",
            "report study.db --at 100,500 --reach 98.5 --csv measurements.csv",
        ),
    ],
)
@click.argument("store", type=PATH)
@option(
    "--at",
    group="Comparison",
    help="Budgets to show, in annotations, with commas.  [default: some, evenly spread]",
)
@option(
    "--reach",
    metavar="PERCENT",
    group="Comparison",
    help="Show how many labels reach these accuracies, in per cent, with commas.",
)
@option(
    "--against",
    metavar="STRATEGY",
    group="Comparison",
    shell_complete=completion.strategies,
    help=(
        "Compare every strategy with this one.  [default: random; those with twins also with the"
        " same without]"
    ),
)
@option(
    "--out",
    type=PATH,
    group="Files",
    help=(
        "The page to write; - is standard output.  [default: next to the store, with its name;"
        " report.html for study.db]"
    ),
)
@option(
    "--csv",
    type=PATH,
    group="Files",
    help="Also write every measurement as a row of this file; - is standard output.",
)
@option(
    "--queries",
    type=PATH,
    group="Files",
    help=(
        "Also write every queried image with its score, prediction and label as a row of this CSV"
        " file; - is standard output."
    ),
)
@tables_option
@option(
    "--figures",
    type=PATH,
    group="Files",
    help="Also write all figures as PDF and SVG to this folder.",
)
@option(
    "--figure-width",
    type=click.Choice(["column", "page"]),
    default="page",
    show_default=True,
    group="Files",
    help="Draw figures as wide as a column of a two-column article, or as a page's text.",
)
@json_option("the results")
@quiet_option
def report(  # noqa: PLR0917
    store: Path,
    at: str | None,
    reach: str | None,
    against: str | None,
    out: Path | None,
    csv: Path | None,
    queries: Path | None,
    tables_folder: Path | None,
    figures: Path | None,
    figure_width: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the tables of a STORE and write its page.

    The paper's numbers stand next to ours where it has them. The run may still be in
    progress.
    """
    from dfal.cli.study_report import show

    budgets = at.split(",") if at else []
    if not all(budget.strip().isdecimal() for budget in budgets):
        raise DfalError(
            f"--at {at!r} is not a list of annotations: give whole numbers with commas, like"
            " 100,500,1000"
        )
    show(
        store,
        out=out,
        csv=csv,
        queries=queries,
        tables_folder=tables_folder,
        figures=figures,
        figure_width=figure_width,
        at=[int(budget) for budget in budgets],
        targets=_targets(reach),
        against=against,
        as_json=as_json,
        quiet=quiet,
    )


def _targets(reach: str | None) -> list[float]:
    """Return accuracies as fractions.

    Raises:
        DfalError: for what is no list of percentages.
    """
    try:
        targets = [float(target) / 100 for target in reach.split(",")] if reach else []
    except ValueError:
        targets = [-1.0]
    if not all(0 < target <= 1 for target in targets):
        raise DfalError(
            f"--reach {reach!r} is not a list of accuracies in per cent: give numbers from 0 to 100"
            " with commas, like 95,98.5"
        )
    return targets
