"""Run jobs, in this process or in several worker processes; only this process writes to the store.

A job computes with one thread wherever it runs, so that its result does not depend on how many run
at the same time.
"""

import ctypes
import itertools
import json
import os
import pickle
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from dfal.data import datasets
from dfal.errors import DfalError
from dfal.experiments.jobs import Job
from dfal.experiments.provenance import environment, refuse_changed
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.plugins import describe_exception
from dfal.processes import start_worker

J = TypeVar("J", bound=Job)


def run(trials: Sequence[J], store: Store, processes: int) -> Iterator[tuple[J, Record]]:
    """Run the missing rounds of these jobs, and yield each round once it is on disk.

    A trial that differs from a stored one in N alone starts with that one's rounds: they are the
    same to the bit.

    Args:
        trials: the jobs; one that is given twice runs once.
        store: open for writing.
        processes: how many jobs run at the same time.

    Raises:
        DfalError: if a job cannot run, if data or code are not those the store began with, or if a
            process dies.
    """
    trials = list({trial.id: trial for trial in trials}.values())  # a job given twice runs once
    configurations, now = {trial.id: trial.to_json() for trial in trials}, environment(trials)
    refuse_changed(store, now)
    stored = store.trials()
    store.add_run(configurations, now)
    work: list[Unfinished] = []
    for trial in trials:
        past = store.records(trial.id, weights=True)
        if trial.finished(past):
            continue
        for record in _reuse_rounds(store, stored, trial)[len(past) :]:
            store.add(trial.id, record)
            past.append(record)
            yield trial, record
        if not trial.finished(past):
            sources = [store.records(source.id) for source in trial.sources]
            work.append(Unfinished(trial, past, sources))
    for trial, record in (
        _serial(work)
        if processes == 1 or len(work) < 2
        else _parallel(work, min(processes, len(work)))
    ):
        store.add(trial.id, record)
        yield trial, record


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


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(trials: Sequence[Job]) -> None:
    """Check that all of these jobs can run, one for all seeds.

    Raises:
        DfalError: if one cannot, before anything is written.
    """
    for trial in {re.sub(r'"seed": \d+', "", trial.to_json()): trial for trial in trials}.values():
        trial.check(trial.data_to_check())


def prepare(trials: Sequence[Job]) -> None:
    """Compute the features that these jobs run on, once for all of them."""
    for trial in trials:
        trial.data()


@dataclass(frozen=True)
class Unfinished:
    """A job with its rounds so far, and the rounds of each of its sources."""

    job: Any
    past: list[Record]
    sources: list[list[Record]]

    def run(self) -> Iterator[Record]:
        """Yield the missing rounds."""
        yield from self.job.run(self.job.data(), self.past, self.sources)


def _keep_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the system each time, which costs page faults in every
    training step, and processes wait for each other's. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
    mallopt(_TRIM_THRESHOLD, 2**30)
    mallopt(_TOP_PAD, 64 * 2**20)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD of <malloc.h>."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread inside the block."""
    _keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _serial(work: list[Unfinished]) -> Iterator[tuple[Any, Record]]:
    """Run the jobs in this process, one after the other."""
    with _one_thread():
        for unfinished in work:
            for record in unfinished.run():
                yield unfinished.job, record


def _parallel(work: list[Unfinished], processes: int) -> Iterator[tuple[Any, Record]]:
    """Run the jobs in worker processes, each of which gets one at a time."""
    waiting = list(reversed(work))
    busy: dict[Any, Job] = {}  # by pipe
    workers = []
    pipe: Any
    try:
        for _ in range(processes):
            worker, pipe = start_worker(_work, dict(datasets.PLACES))
            workers.append(worker)
            busy[pipe] = _dispatch(pipe, waiting)
        while busy:
            for pipe in wait(list(busy)):
                trial = busy[pipe]
                try:
                    message = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    raise DfalError(
                        "a worker process died, perhaps for lack of memory: run again with --resume"
                        " and fewer --processes"
                    ) from None
                if isinstance(message, Exception):
                    raise message
                if message is not None:
                    yield trial, message
                elif waiting:
                    busy[pipe] = _dispatch(pipe, waiting)
                else:
                    del busy[pipe]
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _dispatch(pipe: Connection, waiting: list[Unfinished]) -> Job:
    """Send the next job to a worker, and return it.

    Raises:
        DfalError: if pickle cannot send it.
    """
    unfinished = waiting.pop()
    job: Job = unfinished.job
    # Plain pickle sends tensors by value; multiprocessing's own would pass a file handle for each.
    try:
        sent = pickle.dumps(unfinished)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise DfalError(
            f"{job.label} cannot be sent to another process ({describe_exception(error)}): run it"
            " in one process"
        ) from error
    pipe.send_bytes(sent)
    return job


def _work(pipe: Connection, places: dict[str, str]) -> None:
    """Run the jobs that a pipe brings in this worker process, and send back their records.

    Args:
        pipe: to the parent. Each job ends with None, or with the error that ended it.
        places: where data sets have moved to.
    """
    datasets.move(places)
    torch.set_num_threads(1)
    _keep_memory()
    try:
        while True:
            sent = pipe.recv_bytes()
            try:
                unfinished: Unfinished = pickle.loads(sent)
                for record in unfinished.run():
                    pipe.send_bytes(pickle.dumps(record))
                pipe.send_bytes(pickle.dumps(None))
            except DfalError as error:
                pipe.send_bytes(pickle.dumps(error))
            except Exception as error:  # of the user's code, or a mistake in ours
                traceback.print_exc()
                pipe.send_bytes(
                    pickle.dumps(
                        DfalError(
                            f"a worker process failed ({describe_exception(error)}): its traceback"
                            " is above"
                        )
                    )
                )
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, and with it the only writer
