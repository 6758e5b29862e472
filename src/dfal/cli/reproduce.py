"""dfal reproduce: the tables and figures of the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dfal import reproduce as paper
from dfal.cli import output
from dfal.cli.options import candidates as number_of
from dfal.cli.options import settings, strategy_names
from dfal.cli.places import stored_name
from dfal.cli.progress import follow, side_by_side
from dfal.cli.report import page_of, write_tables
from dfal.errors import DfalError, Stopped
from dfal.experiments import runner
from dfal.experiments.jobs import Job
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.training import Training
from dfal.reporting import html as page
from dfal.reporting import terminal
from dfal.reproduce.settings import PresetSettings


@click.command()
@click.argument("what", type=click.Choice(list(paper.ARTEFACTS)))
@click.option(
    "--preset",
    default="paper",
    show_default=True,
    help=(
        "Where every setting comes from that is not given here: paper, the paper's protocol; or"
        " quick, coarser, minutes."
    ),
)
@settings(Trial, "dataset", "model", preset=True)
@click.option(
    "--strategy",
    multiple=True,
    help=(
        "Rows in place of the paper's: names that `dfal strategies` lists, or your own"
        " package.module:name, with commas."
    ),
)
@settings(Trial, "annotations", "batch", "first", preset=True)
@click.option(
    "--candidates",
    help="K: images of the pool that a strategy looks at in a round, the same for all; or 'all'.",
)
@settings(PresetSettings, "seeds", "full_epochs", "until", "other", "one_way", preset=True)
@settings(Training, preset=True)
@settings(Trial, "device", preset=True)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Trials side by side, one thread each.  [default: the cores; 1 on a GPU]",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="The SQLite file for everything found.  [default: reproduced/PRESET/study.db]",
)
@click.option(
    "--tables",
    "tables_",
    type=click.Path(path_type=Path),
    help="Also write all tables as LaTeX and CSV to this folder.",
)
def reproduce(  # noqa: PLR0917
    what: str,
    preset: str,
    strategy: tuple[str, ...],
    candidates: str | None,
    processes: int | None,
    store: Path | None,
    tables_: Path | None,
    **given: Any,
) -> None:
    """Make a table or figure of the paper again, and put our numbers beside the paper's.

    What the store does not hold yet is run, seed by seed; a run that was stopped goes on when the
    same command is given again. Tables and figures that need the same trials share them.
    """
    if strategy and what in paper.FIXED:
        raise DfalError(
            f"{what} is about the strategies that the paper names there: leave out --strategy"
        )
    if given.get("dataset") == "":
        raise DfalError("--dataset is empty: name a data set, or leave it out")
    chosen = paper.preset(preset).changed(
        (paper.usual_data(what) if preset == "paper" else {})
        | {name: value for name, value in given.items() if value is not None}
        | ({"candidates": number_of(candidates)} if candidates else {})
        | ({"strategies": strategy_names(strategy)} if strategy else {})
    )
    path = store or Path("reproduced") / preset / "study.db"
    chosen = chosen.changed({"dataset": stored_name(chosen.trial.dataset, path)})
    stages: list[Sequence[Job]] = paper.ARTEFACTS[what].stages(chosen)
    runner.check([trial for trials in stages for trial in trials])
    with Store(path, write=True) as opened:
        try:
            for trials in stages:
                follow(trials, opened, 1 if what == "table3" else processes or side_by_side(trials))
        except KeyboardInterrupt:
            raise Stopped(
                "every finished round is stored: give the same command again to go on"
            ) from None
    _compare(path, what, tables_)


def _compare(path: Path, what: str, exported: Path | None) -> None:
    """Print a table or figure beside the paper's, and write the page of everything."""
    chosen = paper.ARTEFACTS[what]
    with Store(path) as store:
        found = paper.read_results(store)
        for made in chosen.tables(found):
            output.console.print(terminal.paper_table(made))
        for table in terminal.verdict_tables(chosen.verdicts(found)):
            output.console.print(table)
        if exported:
            write_tables(exported, found)
        written = page.write(store, found, page_of(path))
    output.console.print(
        f"[bold]Report[/bold] {written}\n[bold]Store [/bold] {path}", soft_wrap=True
    )
