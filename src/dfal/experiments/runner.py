"""Where trials run: here, or side by side in processes of one thread each. This process alone
writes to the store.

A trial computes with one thread wherever it runs, so that its result does not depend on how many
run beside it.
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
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments.provenance import environment, refuse_changed
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.plugins import describe_exception
from dfal.processes import start_worker


@runtime_checkable
class Job(Protocol):
    """What can run here: a trial, or something else that is a configuration and leaves records."""

    @property
    def id(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def efforts(self) -> list[float]: ...
    @property
    def sources(self) -> tuple[Trial, ...]: ...
    def to_json(self) -> str: ...
    def check(self, data: Dataset) -> None: ...
    def finished(self, past: Sequence[Record]) -> bool: ...
    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]: ...


J = TypeVar("J", bound=Job)


def run(trials: Sequence[J], store: Store, processes: int) -> Iterator[tuple[J, Record]]:
    """Run what is missing of these trials; each round is yielded when it is safe in the store.

    A trial that differs from a stored one in N alone begins with that one's rounds: they are the
    same to the bit.

    Raises:
        DfalError: for a trial that cannot run, data or a network that are not those the store began
        with, a process that died.
    """
    configurations, now = {trial.id: trial.to_json() for trial in trials}, environment(trials)
    refuse_changed(store, now)
    stored = store.trials()
    store.add_run(configurations, now)
    work: Work = []
    for trial in trials:
        past = store.records(trial.id)
        if trial.finished(past):
            continue
        for record in _reuse_rounds(store, stored, trial)[len(past) :]:
            store.add(trial.id, record)
            past.append(record)
            yield trial, record
        if not trial.finished(past):
            work.append((trial, past, [store.records(source.id) for source in trial.sources]))
    for trial, record in (
        _serial(work)
        if processes == 1 or len(work) < 2
        else _parallel(work, min(processes, len(work)))
    ):
        store.add(trial.id, record)
        yield trial, record


def _reuse_rounds(store: Store, stored: Mapping[str, str], trial: Job) -> list[Record]:
    """The rounds of a stored trial that differs in N alone: those that asked about as much as this
    trial would have."""
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
            store.records(other),
        )
        longest = max(longest, list(same), key=len)
    return longest


def _but_for_annotations(text: str) -> dict[str, Any]:
    ((kind, fields),) = json.loads(text).items()
    return {"kind": kind} | {name: value for name, value in fields.items() if name != "annotations"}


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(trials: Sequence[Job]) -> None:
    """Raise unless all of these trials can run: before anything is written. One stands for those of
    other seeds."""
    for trial in {re.sub(r'"seed": \d+', "", trial.to_json()): trial for trial in trials}.values():
        trial.check(datasets.load(trial.dataset))


Work = list[tuple[Any, list[Record], list[list[Record]]]]
"""What is missing: the trial, its rounds so far, and those of its sources."""


def _keep_memory() -> None:
    """Let glibc keep the memory of tensors that are gone for those that come next.

    By default it gives large blocks back to the system each time: page faults in every training
    step, at which processes side by side wait for each other. Other C libraries are left as they
    are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
    mallopt(_TRIM_THRESHOLD, 2**30)
    mallopt(_TOP_PAD, 64 * 2**20)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""What <malloc.h> calls M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD."""


@contextmanager
def _one_thread() -> Iterator[None]:
    _keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _serial(work: Work) -> Iterator[tuple[Any, Record]]:
    with _one_thread():
        for trial, past, sources in work:
            for record in trial.run(datasets.load(trial.dataset), past, sources):
                yield trial, record


def _parallel(work: Work, processes: int) -> Iterator[tuple[Any, Record]]:
    """Run the trials in worker processes, one at a time each."""
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
                        "a worker process died, perhaps for want of memory: go on with --resume,"
                        " with fewer --processes"
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


def _dispatch(pipe: Connection, waiting: Work) -> Job:
    trial, past, sources = waiting.pop()
    job: Job = trial
    # Plain pickle sends tensors by value; multiprocessing's own would pass a file handle for each.
    try:
        sent = pickle.dumps((trial, past, sources))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise DfalError(
            f"{job.label} cannot be sent to another process ({describe_exception(error)}): run it"
            " in one process"
        ) from error
    pipe.send_bytes(sent)
    return job


def _work(pipe: Connection, places: dict[str, str]) -> None:
    datasets.move(places)
    torch.set_num_threads(1)
    _keep_memory()
    try:
        while True:
            sent = pipe.recv_bytes()
            try:
                trial, past, sources = pickle.loads(sent)
                for record in trial.run(datasets.load(trial.dataset), past, sources):
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
        pass  # The parent is gone, and with it the only writer.
