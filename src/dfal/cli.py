"""The command line: dfal label | export | predict | model | run | report | strategies | data."""

import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dfal import datasets, engine, report, sheet, tables
from dfal.labelling.command import export, label
from dfal.options import settings
from dfal.predicting import model, predict
from dfal.results import studies, titles, write_csv
from dfal.store import Store
from dfal.strategies import ABOUT, NAMED, name_of, named, with_candidates
from dfal.training import Training
from dfal.trial import Trial
from dfal.types import DfalError, Stopped, Strategy

console = Console()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="dfal")
def cli() -> None:
    """Label fewer images: ask about those closest to the network's decision boundary, and learn from each answer twice."""


cli.add_command(label)
cli.add_command(export)
cli.add_command(predict)
cli.add_command(model)


@cli.command()
@settings(Trial, "dataset", "model")
@click.option(
    "--strategy",
    multiple=True,
    default=("dfal", "uncertainty", "random"),
    show_default=True,
    help="Whom to ask: one that `dfal strategies` lists, with +twins behind it to learn the adversarial twins too; several "
    "with commas, or the option again.",
)
@settings(Trial, "annotations", "batch", "first")
@click.option(
    "--candidates",
    default="300",
    show_default=True,
    help="K: images of the unlabelled pool that a strategy looks at in a round, drawn at random, the same for all; or 'all'.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many seeds: trials of each strategy.")
@settings(Training)
@settings(Trial, "device")
@click.option(
    "--processes", type=click.IntRange(1), help="Trials side by side, one thread each.  [default: the cores; 1 on a GPU]"
)
@click.option(
    "--store", type=click.Path(path_type=Path), help="The SQLite file for everything found.  [default: runs/DATE-TIME/study.db]"
)
@click.option(
    "--resume", is_flag=True, help="Go on with the unfinished trials of the store; without --store, of the latest one."
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

    Every trial starts from the same few labels, trains a network, asks about a batch, learns the answers, and begins anew
    until it has bought its annotations. It all goes into one file; a stopped run goes on with --resume. At the end stands
    a table, and report.html beside the store.
    """
    path = store or (_latest() if resume else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S") / "study.db")
    if resume:
        _nothing_but(context, {"store", "resume", "processes", "model"})
        if not path.is_file():
            raise DfalError(f"there is no store {path} to go on with: leave out --resume to start it")
        trials = _stored_trials(path, context)
    else:
        training = Training(**{field.name: configuration.pop(field.name) for field in fields(Training)})
        chosen = [_strategy(name, candidates) for names in strategy for name in names.split(",") if name]
        trials = [
            Trial(strategy=one, seed=seed, training=training, **configuration)
            for seed in range(seeds)
            for one in dict.fromkeys(chosen)
        ]
        if not trials:
            raise DfalError(f"--strategy names none: give one or several of {', '.join(NAMED)}")
    engine.check(trials)
    on_gpu = any(trial.device != "cpu" for trial in trials)
    with Store(path, write=True) as opened:
        if not resume:
            _refuse_unfinished(opened)
        try:
            _progress(trials, opened, processes or (1 if on_gpu else engine.cores()))
        except KeyboardInterrupt:
            raise Stopped(f"every finished round is stored: go on with dfal run --resume --store {path}") from None
    _finish(path)


@cli.command("report")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page to write.  [default: report.html beside the store]")
@click.option("--csv", type=click.Path(path_type=Path), help="Also write every measurement as a row of this file.")
@click.option("--at", help="Budgets to show, in annotations, with commas.  [default: some, evenly spread]")
@click.option(
    "--against",
    metavar="STRATEGY",
    help="Compare every strategy with this one.  [default: with twins with without, others with random]",
)
def report_command(store: Path, out: Path | None, csv: Path | None, at: str | None, against: str | None) -> None:
    """Print the tables of a STORE and write its page.

    It may be the store of a run that still goes on.
    """
    budgets = (at or "").split(",") if at else []
    if not all(budget.strip().isdecimal() for budget in budgets):
        raise DfalError(f"--at {at!r} is no list of annotations: give whole numbers with commas, like 100,500,1000")
    _finish(store, out, csv, [int(budget) for budget in budgets], against)


@cli.command("strategies")
def strategies_command() -> None:
    """List the strategies."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, (_, line) in ABOUT.items():
        table.add_row(f"[bold]{name}[/bold]", line)
    console.print(table, highlight=False)
    console.print("Any of them with +twins behind its name also learns the adversarial twins of what it asks about.")


@cli.command()
@click.argument("name", required=False)
@click.option("--fetch", is_flag=True, help="Download it now, rather than when it is first used, and verify it.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Write a PNG with samples of each class to this file."
)
def data(name: str | None, fetch: bool, picture: Path | None) -> None:
    """List the data sets, or show one: a name, a FILE.npz or a FOLDER of images."""
    if name is None:
        if fetch or picture:
            raise DfalError(f"{'--fetch' if fetch else '--picture'} needs the name of a data set: dfal data mnist …")
        for card in datasets.CARDS.values():
            console.print(tables.of_card(card), soft_wrap=False)
        console.print("Any other: a FILE.npz with images (N, height, width[, channels]) as uint8, and labels (N);")
        console.print("or a FOLDER of images in sub-folders, one for each class. dfal data NAME says more of one.")
        return
    known = datasets.CARDS.get(name)
    loaded = datasets.load(name) if fetch or picture or known is None else None
    console.print(tables.of_card(known, whole=True) if known else tables.of_dataset(name, datasets.load(name)))
    if picture and loaded:
        sheet.write(loaded, name, picture)
        console.print(f"[bold]Picture[/bold] {picture}", soft_wrap=True)


def _strategy(name: str, candidates: str) -> Strategy:
    if candidates != "all" and not candidates.isdecimal():
        raise DfalError(f"--candidates {candidates!r} is neither a number of images nor 'all'")
    return with_candidates(named(name), None if candidates == "all" else int(candidates))


def _latest() -> Path:
    stores = sorted(Path("runs").glob("*/study.db"))
    if not stores:
        raise DfalError("there is no run to go on with in the folder runs: name its --store, or leave out --resume")
    return stores[-1]


def _nothing_but(context: click.Context, allowed: set[str]) -> None:
    given = [name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    for name in given:
        if name not in allowed:
            flag = "--" + name.replace("_", "-")
            raise DfalError(
                f"--resume takes its settings from the store: leave out {flag}, or leave out --resume for a new run"
            )


def _stored_trials(path: Path, context: click.Context) -> list[Trial]:
    with Store(path) as store:
        stored = store.trials()
    trials = [Trial.from_json(text) for text in stored.values()]
    if {trial.id for trial in trials} != stored.keys():
        raise DfalError(f"{path} was made by a dfal with other settings: `dfal report` reads it, but it cannot go on")
    if not trials:
        raise DfalError(f"{path} holds no trials yet: leave out --resume to start them")
    for trial in trials:
        if ":" in trial.model and context.params["model"] != trial.model:
            raise DfalError(f"{path} was made with the network {trial.model}: say --model {trial.model} if its code may be run")
    return sorted(trials, key=lambda trial: (trial.seed, name_of(trial.strategy)))


def _refuse_unfinished(store: Store) -> None:
    for trial in store.trials():
        records = store.records(trial, twins=False)
        if not records or not records[-1].last:
            raise DfalError(f"{store.path} holds unfinished trials: go on with --resume, or name another --store")


def _progress(trials: list[Trial], store: Store, processes: int) -> None:
    """Run the trials and show how far they are. The time left is by annotations trained on, not by rounds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    width = max(len(name_of(trial.strategy)) for trial in trials)
    began = time.monotonic()
    with Progress(*columns, console=console, speed_estimate_period=900, refresh_per_second=2) as progress:
        whole = progress.add_task("all trials", total=sum(_work(trial) for trial in trials), done="", state="")
        tasks = {}
        for trial in trials:
            past = store.records(trial.id, twins=False)
            progress.advance(whole, sum(record.measurements["annotations"] for record in past))
        for trial, record in engine.run(trials, store, processes):
            label = f"{name_of(trial.strategy):{width}} seed {trial.seed}"
            if trial.id not in tasks:
                tasks[trial.id] = progress.add_task(label, total=_rounds(trial), done="", state="")
            measured = record.measurements
            done = f"round {record.round + 1}/{_rounds(trial)}"
            state = f"{measured['annotations']:.0f} annotations {measured['accuracy']:.1%}"
            progress.update(tasks[trial.id], completed=record.round + 1, done=done, state=state)
            progress.advance(whole, measured["annotations"])
            progress.update(
                whole, done=f"{progress.tasks[whole].percentage:.0f}%", state=f"{time.monotonic() - began:.0f} s so far"
            )
            if record.last:
                progress.update(tasks[trial.id], visible=False)
                progress.console.print(f"{label}  {state}", highlight=False)


def _rounds(trial: Trial) -> int:
    return 1 + -(-(trial.annotations - trial.first) // trial.batch)


def _work(trial: Trial) -> int:
    return sum(min(trial.first + trial.batch * round, trial.annotations) for round in range(_rounds(trial)))


def _finish(
    path: Path, out: Path | None = None, csv: Path | None = None, at: Sequence[int] = (), against: str | None = None
) -> None:
    with Store(path) as store:
        found = studies(store, against)
        if not found:
            raise DfalError(f"{path} holds no finished round yet: let `dfal run` go on first")
        for title, study in zip(titles(found), found, strict=True):
            for table in tables.of(title, study, at, console.width):
                console.print(table)
        if csv:
            write_csv(found, csv)
        page = report.write(store, found, out or path.parent / "report.html", at)
    console.print(f"[bold]Report[/bold] {page}\n[bold]Store [/bold] {path}", soft_wrap=True)


def main() -> None:
    """Run the command line; wrong use and bad input end in one sentence and exit code 2, Ctrl-C in 130."""
    try:
        cli.main(standalone_mode=False)
    except DfalError as error:
        click.echo(f"dfal: {error}", err=True)
        sys.exit(2)
    except (Stopped, click.exceptions.Abort) as stop:
        click.echo(f"dfal: stopped; {stop}" if str(stop) else "dfal: stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
