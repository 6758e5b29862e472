"""Run jobs on this machine: in this process, or in several worker processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from dfal.data import datasets
from dfal.errors import DfalError
from dfal.experiments.executors.base import (
    Records,
    Task,
    keep_memory,
    messages,
    one_thread,
    pack,
    read_message,
)
from dfal.experiments.jobs import Job
from dfal.processes import available_cores, death_errors, start_worker

CURE = "run again with --resume and fewer --processes"
"""What to do when a worker dies."""


@dataclass(frozen=True)
class Local:
    """Runs jobs on this machine: as many at a time as there are cores, one on a GPU."""

    elsewhere = False

    @classmethod
    def of(cls, settings: str) -> "Local":
        """Return the executor of a name, which has no settings.

        Raises:
            DfalError: for any.
        """
        if settings:
            raise DfalError(f"the executor local has no setting {settings}: leave it out")
        return cls()

    def __call__(self, tasks: Sequence[Task], processes: int | None, folder: Path) -> Records:
        """Run jobs, and yield each round as soon as it is made.

        Raises:
            DfalError: if a job fails or a worker process dies.
        """
        if processes is None:
            processes = 1 if any(task.job.device != "cpu" for task in tasks) else available_cores()
        if processes == 1 or len(tasks) < 2:
            return _serial(tasks)
        return in_workers(tasks, min(processes, len(tasks)))


def _serial(tasks: Sequence[Task]) -> Records:
    """Run the jobs in this process, one after the other."""
    with one_thread():
        for task in tasks:
            for record in task.unfinished().run():
                yield task.job, record


def in_workers(
    tasks: Sequence[Task],
    processes: int,
    target: Callable[..., None] | None = None,
    arguments: Sequence[tuple[object, ...]] = (),
) -> Records:
    """Run the jobs in worker processes, each of which gets one at a time.

    Args:
        tasks: the jobs.
        processes: how many there are.
        target: runs in each process; `work` by default.
        arguments: of each process, behind those of `work`.

    Raises:
        DfalError: if a job fails or a process dies.
    """
    waiting = list(reversed(tasks))
    busy: dict[Any, Job] = {}  # by pipe
    workers: dict[Any, BaseProcess] = {}
    pipe: Any
    try:
        for number in range(processes):
            own = arguments[number] if arguments else ()
            worker, pipe = start_worker(target or work, dict(datasets.PLACES), *own)
            workers[pipe] = worker
            busy[pipe] = _dispatch(workers, pipe, waiting)
        while busy:
            for pipe in wait(list(busy)):
                with death_errors(workers[pipe], CURE):
                    message = pipe.recv_bytes()
                if (record := read_message(message)) is not None:
                    yield busy[pipe], record
                elif waiting:
                    busy[pipe] = _dispatch(workers, pipe, waiting)
                else:
                    del busy[pipe]
    finally:
        for worker in workers.values():
            worker.terminate()
            worker.join()


def _dispatch(workers: Mapping[Any, BaseProcess], pipe: Connection, waiting: list[Task]) -> Job:
    """Send the next job to a worker, and return it."""
    task = waiting.pop()
    with death_errors(workers[pipe], CURE):
        pipe.send_bytes(pack(task.unfinished()))
    return task.job


def work(pipe: Connection, places: dict[str, str]) -> None:
    """Run the jobs that a pipe brings in this worker process, and send back their records.

    Args:
        pipe: to the parent.
        places: where data sets have moved to.
    """
    datasets.move(places)
    torch.set_num_threads(1)
    keep_memory()
    try:
        while True:
            for message in messages(pipe.recv_bytes()):
                pipe.send_bytes(message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, and with it the only writer
