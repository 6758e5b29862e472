"""Run trials and show their progress on standard error, if that is a terminal."""

import time
from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dfal.experiments import runner
from dfal.experiments.executors import Executor
from dfal.experiments.jobs import Job
from dfal.experiments.store import Record, Store


def run_trials(
    trials: Sequence[Job],
    store: Store,
    processes: int | None,
    executor: Executor,
    *,
    quiet: bool = False,
) -> None:
    """Run trials and show their progress.

    The time left is estimated from the images that each round trains on.

    Args:
        trials: what to run; what is stored already is not run again.
        store: to which every round is added.
        processes: how many trials run at a time; None for the executor's default.
        executor: where they run.
        quiet: whether to show nothing.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    width = max(len(trial.label) for trial in trials)
    began = time.monotonic()
    with (
        closing(runner.run(trials, store, processes, executor)) as rounds_run,
        Progress(
            *columns,
            console=console,
            speed_estimate_period=900,
            refresh_per_second=2,
            disable=quiet or not console.is_terminal,
        ) as progress,
    ):
        whole = progress.add_task(
            "all trials", total=sum(sum(trial.round_costs) for trial in trials), done="", state=""
        )
        tasks = {}
        for trial in trials:
            past = store.records(trial.id, twins=False)
            progress.advance(whole, sum(trial.round_costs[: len(past)]))
        for trial, record in rounds_run:
            if progress.disable:
                continue
            label, rounds = f"{trial.label:{width}}", len(trial.round_costs)
            if trial.id not in tasks:
                tasks[trial.id] = progress.add_task(label, total=rounds, done="", state="")
            done, state = f"round {record.round + 1}/{rounds}", _state(record)
            progress.update(tasks[trial.id], completed=record.round + 1, done=done, state=state)
            progress.advance(whole, trial.round_costs[record.round])
            progress.update(
                whole,
                done=f"{progress.tasks[whole].percentage:.0f}%",
                state=f"{time.monotonic() - began:.0f} s so far",
            )
            if record.round + 1 == rounds:
                progress.update(tasks[trial.id], visible=False)
                progress.console.print(f"{label}  {state}", highlight=False, soft_wrap=True)


def _state(record: Record) -> str:
    """Return what a round measured, in a few words."""
    measured = record.measurements
    if "accuracy" not in measured:
        return f"{record.costs['select']:.3f} s"
    return f"{measured['annotations']:.0f} annotations {measured['accuracy']:.1%}"
