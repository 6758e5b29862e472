"""dfal reproduce: the tables and figures of the paper."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from dfal.cli import completion
from dfal.cli.commands import Command, option
from dfal.cli.options import (
    PATH,
    candidate_count,
    json_option,
    processes_option,
    quiet_option,
    settings,
    strategy_names,
)
from dfal.cli.report import tables_option
from dfal.errors import DfalError, Stopped
from dfal.experiments.trial_settings import TrialSettings
from dfal.nn.training_settings import Training
from dfal.reproduce.settings import ARTEFACTS, FIXED, PresetSettings

PAPER_TRAINING = [field.name for field in fields(Training) if field.name != "unlabelled"]
"""Settings of training with which the paper's tables are reproduced."""


@click.command(
    cls=Command,
    examples=[
        ("Table 1 on a few images, in minutes", "reproduce table1 --preset quick"),
        ("Figure 2 by the paper's protocol", "reproduce figure2 --dataset mnist --seeds 5"),
    ],
)
@click.argument("what", type=click.Choice(list(ARTEFACTS)))
@option(
    "--preset",
    default="paper",
    show_default=True,
    group="Data and network",
    shell_complete=completion.presets,
    help=(
        "Where settings come from that are not given here: paper, the paper's protocol; or quick,"
        " a coarser one that takes minutes."
    ),
)
@settings(TrialSettings, "dataset", "model", group="Data and network", preset=True)
@settings(PresetSettings, "other", "one_way", group="Data and network", preset=True)
@option(
    "--strategy",
    multiple=True,
    group="Queries",
    shell_complete=completion.strategies,
    help=(
        "Query strategies in place of the paper's, several with commas: names that `dfal"
        " strategies` lists, or your own package.module:name."
    ),
)
@settings(TrialSettings, "annotations", "batch", "first", group="Queries", preset=True)
@option(
    "--candidates",
    group="Queries",
    help=(
        "Images of the unlabelled pool among which a strategy selects in each round (K), the same"
        " for all strategies; or 'all'."
    ),
)
@settings(PresetSettings, "seeds", "until", group="Queries", preset=True)
@settings(Training, *PAPER_TRAINING, group="Training", preset=True)
@settings(PresetSettings, "full_epochs", group="Training", preset=True)
@settings(TrialSettings, "device", group="Computation", preset=True)
@processes_option
@option(
    "--store",
    type=PATH,
    group="Output",
    help="The SQLite file for all results.  [default: reproduced/PRESET/study.db]",
)
@tables_option
@json_option("the results")
@quiet_option
def reproduce(  # noqa: PLR0917
    what: str,
    preset: str,
    strategy: tuple[str, ...],
    candidates: str | None,
    processes: int | None,
    store: Path | None,
    tables_folder: Path | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Reproduce a table or figure of the paper, and print our numbers next to the paper's.

    What the store does not hold yet is run, seed by seed; run the same command to resume. Tables
    and figures that need the same trials share them.
    """
    from dfal import reproduce as paper
    from dfal.cli.places import stored_name
    from dfal.cli.progress import run_trials
    from dfal.cli.reproduced import show
    from dfal.cli.trials import use_device
    from dfal.experiments import executors, runner
    from dfal.experiments.store import Store

    if strategy and what in FIXED:
        raise DfalError(
            f"{what} is about the strategies that the paper names there: leave out --strategy"
        )
    if given.get("dataset") == "":
        raise DfalError("--dataset is empty: name a data set, or leave it out")
    if given.get("device"):
        given["device"] = use_device(given["device"])
    chosen = paper.preset(preset).changed(
        (paper.usual_data(what) if preset == "paper" else {})
        | {name: value for name, value in given.items() if value is not None}
        | ({"candidates": candidate_count(candidates)} if candidates else {})
        | ({"strategies": strategy_names(strategy)} if strategy else {})
    )
    path = store or Path("reproduced") / preset / "study.db"
    chosen = chosen.changed({"dataset": stored_name(chosen.trial.dataset, path)})
    stages = ARTEFACTS[what].stages(chosen)
    runner.check([trial for trials in stages for trial in trials])
    with Store(path, write=True) as opened:
        try:
            for trials in stages:  # those of Table 3 are timed, one at a time
                at_a_time = 1 if what == "table3" else processes
                run_trials(trials, opened, at_a_time, executors.named("local"), quiet=quiet)
        except KeyboardInterrupt:
            raise Stopped(
                "every finished round is stored: run the same command to resume"
            ) from None
    show(path, what, tables_folder, as_json=as_json, quiet=quiet)
