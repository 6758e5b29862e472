"""dfal run: compare query strategies on labelled data."""

from pathlib import Path
from typing import Any

import click

from dfal.cli import completion
from dfal.cli.commands import Command, option
from dfal.cli.options import (
    PATH,
    json_option,
    options_given,
    processes_option,
    quiet_option,
    settings,
)
from dfal.errors import Stopped
from dfal.experiments.trial_settings import TrialSettings
from dfal.nn.training_settings import Training


@click.command(
    cls=Command,
    examples=[
        (
            "compare three strategies on handwritten digits",
            "run --strategy dfal,entropy,random --annotations 200 --seeds 5",
        ),
        (
            "compare them on features of photographs",
            "run --dataset photos --backbone lite2 --annotations 200",
        ),
    ],
)
@settings(TrialSettings, "dataset", "model", "backbone", "size", group="Data and network")
@option(
    "--strategy",
    multiple=True,
    default=("dfal", "uncertainty", "random"),
    show_default=True,
    group="Queries",
    shell_complete=completion.strategies,
    help=(
        "Query strategies, several with commas or the option again: names that `dfal strategies`"
        " lists, or your own package.module:name, which is called as (model, pool, k, rng) and"
        " returns a Query. With +twins behind a name the adversarial twins are trained on too."
    ),
)
@settings(TrialSettings, "annotations", "batch", "first", "first_by", "coverage", group="Queries")
@option(
    "--candidates",
    default="300",
    show_default=True,
    group="Queries",
    help=(
        "Images of the unlabelled pool among which a strategy selects in each round (K), drawn at"
        " random, the same for all strategies; or 'all'."
    ),
)
@option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    group="Queries",
    help="Seeds, each of which is one trial of each strategy.",
)
@option(
    "--recipe",
    metavar="NAME",
    group="Training",
    help=(
        "Settings of training and first images that belong together; options beside it change one:"
        " paper, as the paper trains; quick, with enough steps for few labels; best, with"
        " augmentation and all that the unlabelled images teach."
    ),
)
@settings(Training, group="Training")
@settings(TrialSettings, "start_from", "fit", group="Training")
@settings(TrialSettings, "device", group="Computation")
@option(
    "--executor",
    default="local",
    show_default=True,
    group="Computation",
    shell_complete=completion.executors,
    help=(
        "Where trials run, with settings behind a colon: local, processes of this machine;"
        " together, the same, by default three for each core, with all networks trained in step,"
        " for a GPU; ray, workers of a Ray cluster, of this machine or as ray://host:10001; slurm,"
        " a Slurm job for each trial, as slurm:partition=gpu,timeout_min=600."
    ),
)
@processes_option
@option(
    "--store",
    type=PATH,
    group="Output",
    help="The SQLite file for all results.  [default: runs/DATE-TIME/study.db]",
)
@option(
    "--resume",
    is_flag=True,
    group="Output",
    help=(
        "Resume the unfinished trials of the store; without --store, of the latest run in runs/."
        " With --dataset, read the data from where they are now."
    ),
)
@json_option("the results")
@quiet_option
@click.pass_context
def run(  # noqa: PLR0917
    context: click.Context,
    /,
    strategy: tuple[str, ...],
    candidates: str,
    seeds: int,
    recipe: str | None,
    executor: str,
    processes: int | None,
    store: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    **configuration: Any,
) -> None:
    """Compare query strategies on labelled data.

    Every trial starts from the same few labels. In each round it trains the network from scratch,
    queries a batch of images and adds their labels, until it has its annotations. All results go
    into one file; resume a stopped run with --resume, or with the same command and --store. At the
    end a table is printed, and a page is written next to the store.
    """
    from dfal.cli import trials
    from dfal.cli.progress import run_trials
    from dfal.cli.study_report import show
    from dfal.experiments import executors
    from dfal.experiments.store import Store

    where = executors.named(executor)
    path = store or (trials.latest_store() if resume else trials.new_store())
    if resume:
        chosen = trials.stored_trials(path, options_given(context), strategy)
    else:
        trials.refuse_unused(options_given(context))
        configuration |= trials.recipe_settings(recipe, options_given(context))
        chosen = trials.new_trials(path, strategy, candidates, seeds, configuration)
    trials.check(chosen, elsewhere=where.elsewhere)
    trials.prepare(chosen, elsewhere=where.elsewhere)
    with Store(path, write=True) as opened:
        if not resume:
            trials.refuse_unfinished(opened, chosen)
        try:
            run_trials(chosen, opened, processes, where, quiet=quiet)
        except KeyboardInterrupt:
            raise Stopped(
                f"every finished round is stored: resume with dfal run --resume --store {path}"
            ) from None
    show(path, as_json=as_json, quiet=quiet)
