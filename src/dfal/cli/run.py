"""dfal run: strategies compared where labels are known."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dfal.cli.options import candidates as number_of
from dfal.cli.options import settings, strategy_names
from dfal.cli.places import absolute_files, find_again, stored_name
from dfal.cli.progress import follow, side_by_side
from dfal.cli.report import show
from dfal.errors import DfalError, Stopped
from dfal.experiments import runner
from dfal.experiments.serialization import is_kind, to_json
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.training import Training
from dfal.strategies import STRATEGIES, name_of, named, with_candidates


@click.command()
@settings(Trial, "dataset", "model")
@click.option(
    "--strategy",
    multiple=True,
    default=("dfal", "uncertainty", "random"),
    show_default=True,
    help=(
        "Whom to ask: one that `dfal strategies` lists, or your own package.module:name, which is"
        " called as (model, pool, k, rng) and returns a Query; +twins behind it learns the"
        " adversarial twins too. Several with commas, or the option again."
    ),
)
@settings(Trial, "annotations", "batch", "first")
@click.option(
    "--candidates",
    default="300",
    show_default=True,
    help=(
        "K: images of the unlabelled pool that a strategy looks at in a round, drawn at random, the"
        " same for all; or 'all'."
    ),
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How many seeds: trials of each strategy.",
)
@settings(Training)
@settings(Trial, "device")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Trials side by side, one thread each.  [default: the cores; 1 on a GPU]",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="The SQLite file for everything found.  [default: runs/DATE-TIME/study.db]",
)
@click.option(
    "--resume",
    is_flag=True,
    help=(
        "Go on with the unfinished trials of the store; without --store, of the run in runs/ that"
        " was begun last. --dataset says where data are that have moved."
    ),
)
@click.pass_context
def run(  # noqa: PLR0917
    context: click.Context,
    /,
    strategy: tuple[str, ...],
    candidates: str,
    seeds: int,
    processes: int | None,
    store: Path | None,
    resume: bool,
    **configuration: Any,
) -> None:
    """Compare strategies where labels are known.

    Every trial starts from the same few labels, trains a network, asks about a batch, learns the
    answers, and begins anew until it has bought its annotations. It all goes into one file; a
    stopped run goes on with --resume, or with the same command and --store. At the end stands a
    table, and a page beside the store.
    """
    path = store or (_latest() if resume else _new())
    if resume:
        theirs = {"strategy"} if all(":" in name for name in strategy_names(strategy)) else set()
        _nothing_but(context, {"store", "resume", "processes", "model", "dataset", *theirs})
        if not path.is_file():
            raise DfalError(
                f"there is no store {path} to go on with: leave out --resume to start it"
            )
        trials = _stored_trials(path, context)
        find_again({trial.dataset for trial in trials}, path, _given(context, "dataset"))
    else:
        configuration["dataset"] = stored_name(configuration["dataset"], path)
        training = Training(
            **{field.name: configuration.pop(field.name) for field in fields(Training)}
        )
        chosen = [
            with_candidates(named(name, imports=True), number_of(candidates))
            for name in strategy_names(strategy)
        ]
        chosen = [absolute_files(one, path) for one in chosen]
        distinct = {to_json(one): one for one in chosen}.values()
        trials = [
            Trial(strategy=one, seed=seed, training=training, **configuration)
            for seed in range(seeds)
            for one in distinct
        ]
        if not trials:
            raise DfalError(
                f"--strategy names none: give one or several of {', '.join(STRATEGIES)}"
            )
    runner.check(trials)
    with Store(path, write=True) as opened:
        if not resume:
            _refuse_unfinished(opened, trials)
        try:
            follow(trials, opened, processes or side_by_side(trials))
        except KeyboardInterrupt:
            raise Stopped(
                f"every finished round is stored: go on with dfal run --resume --store {path}"
            ) from None
    show(path)


def _new() -> Path:
    """Return the store of a new run, in a folder with the time in UTC that is not there yet."""
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    folders = (
        Path("runs") / f"{name}{number}"
        for number in ("", *(f"-{count}" for count in range(2, 1000)))
    )
    return next(folder for folder in folders if not folder.exists()) / "study.db"


def _latest() -> Path:
    """Return the store in the folder runs that was begun last, whatever it is called and in
    whatever time zone."""
    begun = {
        path: at for path in Path("runs").glob("*/study.db") if (at := _begun(path)) is not None
    }
    if not begun:
        raise DfalError(
            "there is no run to go on with in the folder runs: name its --store, or leave out"
            " --resume"
        )
    return max(begun, key=lambda path: (begun[path], path.parent.name))


def _begun(path: Path) -> datetime | None:
    """Return when the first run of a store began; None where it did not begin, or the file is no
    store."""
    try:
        with Store(path) as store:
            at = datetime.fromisoformat(store.environments()[0]["at"])
    except (DfalError, LookupError, TypeError, ValueError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _given(context: click.Context, name: str) -> Any:
    """Return an option where it was given, otherwise None."""
    given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    return context.params[name] if given else None


def _nothing_but(context: click.Context, allowed: set[str]) -> None:
    given = [
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    for name in given:
        if name not in allowed:
            flag = "--" + name.replace("_", "-")
            raise DfalError(
                f"--resume takes its settings from the store: leave out {flag}, or leave out"
                " --resume for a new run"
            )


def _stored_trials(path: Path, context: click.Context) -> list[Trial]:
    with Store(path) as store:
        stored = store.trials()
    if not all(is_kind(Trial, text) for text in stored.values()):
        raise DfalError(
            f"{path} holds tables of `dfal reproduce`: give that command again to go on"
        )
    code = [named(name, imports=True) for name in strategy_names(context.params["strategy"])]
    trials = [Trial.from_json(text, code) for text in stored.values()]
    if {trial.id for trial in trials} != stored.keys():
        raise DfalError(
            f"{path} was made by a dfal with other settings: `dfal report` reads it, but it cannot"
            " go on"
        )
    if not trials:
        raise DfalError(f"{path} holds no trials yet: leave out --resume to start them")
    for trial in trials:
        if ":" in trial.model and context.params["model"] != trial.model:
            raise DfalError(
                f"{path} was made with the network {trial.model}: say --model {trial.model} if its"
                " code may be run"
            )
    return sorted(trials, key=lambda trial: (trial.seed, name_of(trial.strategy)))


def _refuse_unfinished(store: Store, trials: Sequence[Trial]) -> None:
    """Raise where trials that are not those of this command would be left unfinished."""
    wanted = {trial.id for trial in trials}
    for trial in store.trials().keys() - wanted:
        records = store.records(trial, twins=False)
        if not records or not records[-1].last:
            raise DfalError(
                f"{store.path} holds other unfinished trials: go on with --resume, or name another"
                " --store"
            )
