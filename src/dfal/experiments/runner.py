"""Run the missing rounds of jobs by an executor; only this process writes to the store."""

import dataclasses
import itertools
import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from dfal.errors import DfalError
from dfal.experiments import executors
from dfal.experiments.executors import Executor, Task
from dfal.experiments.executors.base import Unfinished
from dfal.experiments.jobs import Job
from dfal.experiments.provenance import environment, refuse_changed
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial

J = TypeVar("J", bound=Job)


def run(
    trials: Sequence[J],
    store: Store,
    processes: int | None = None,
    executor: Executor | str = "local",
) -> Generator[tuple[J, Record], None, None]:
    """Run the missing rounds of these jobs, and yield each round once it is on disk.

    A trial that differs from a stored one in N alone starts with that one's rounds: they are the
    same to the bit.

    Args:
        trials: the jobs; one that is given twice runs once.
        store: open for writing.
        processes: how many jobs run at the same time; None for the executor's default.
        executor: where they run: a name of `executors.EXECUTORS`, with its settings behind a colon,
            or an executor of your own.

    Raises:
        DfalError: if a job cannot run, if data or code are not those the store began with, or if a
            process dies.
    """
    execute = executors.named(executor) if isinstance(executor, str) else executor
    trials = list({trial.id: trial for trial in trials}.values())  # a job given twice runs once
    configurations, now = {trial.id: trial.to_json() for trial in trials}, environment(trials)
    refuse_changed(store, now)
    stored = store.trials()
    store.add_run(configurations, now)
    tasks: list[Task] = []
    for trial in trials:
        past = store.records(trial.id, weights=True)
        if trial.finished(past):
            continue
        for record in _reuse_rounds(store, stored, trial)[len(past) :]:
            store.add(trial.id, record)
            past.append(record)
            yield trial, record
        if not trial.finished(past):
            tasks.append(_task(store, trial, now["data"][trial.dataset]))
    if not tasks:
        return
    folder = store.path.with_name(f"{store.path.name}.jobs")
    with closing(execute(tasks, processes, folder)) as rounds:
        for trial, record in rounds:
            store.add(trial.id, record)
            yield trial, record


def _task(store: Store, job: Job, fingerprint: str) -> Task:
    """Return a job, with what reads its rounds from the store when it starts or resumes."""

    def unfinished() -> Unfinished:
        past = store.records(job.id, weights=True)
        return Unfinished(
            job, past, [store.records(source.id) for source in job.sources], fingerprint
        )

    return Task(job, unfinished)


def _reuse_rounds(store: Store, stored: Mapping[str, str], trial: Job) -> list[Record]:
    """Return the rounds of a stored trial that differs in N alone, as far as they are the same.

    Args:
        store: an open store.
        stored: its jobs, id → configuration.
        trial: the job to run; only a trial has such rounds.
    """
    if not isinstance(trial, Trial):
        return []
    longest: list[Record] = []
    for other, text in stored.items():
        if other == trial.id or _but_for_annotations(text) != _but_for_annotations(trial.to_json()):
            continue
        same = itertools.takewhile(
            lambda record: (
                len(record.answers) == trial.batch
                and record.measurements["annotations"] + trial.batch <= trial.annotations
            ),
            store.records(other, weights=True),
        )
        longest = max(longest, list(same), key=len)
    return longest


def _but_for_annotations(text: str) -> dict[str, Any]:
    """Return a configuration without its N."""
    ((kind, fields),) = json.loads(text).items()
    return {"kind": kind} | {name: value for name, value in fields.items() if name != "annotations"}


def check(trials: Sequence[Job], *, elsewhere: bool = False) -> None:
    """Check that all of these jobs can run, one for all seeds.

    Args:
        trials: the jobs.
        elsewhere: whether they run on other machines, whose devices this one may lack.

    Raises:
        DfalError: if one cannot, before anything is written.
    """
    for trial in {re.sub(r'"seed": \d+', "", trial.to_json()): trial for trial in trials}.values():
        job: Any = trial
        if elsewhere and trial.device not in {"cpu", "cuda"}:
            raise DfalError(
                f"the executor chooses where a trial runs: the device must be cpu or cuda (got"
                f" {trial.device})"
            )
        (dataclasses.replace(job, device="cpu") if elsewhere else job).check(trial.data_to_check())


def prepare(trials: Sequence[Job], *, elsewhere: bool = False) -> None:
    """Compute the features that these jobs run on, once for all of them.

    Args:
        trials: the jobs.
        elsewhere: whether they run on other machines. Those compute features on a GPU themselves.
    """
    for trial in trials:
        if trial.device == "cpu" or not elsewhere:
            trial.data()
