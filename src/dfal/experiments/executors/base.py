"""What executors share: a trial with its rounds so far goes out, records come back.

A job computes with one thread wherever it runs, so that its result does not depend on the place.
"""

import ctypes
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch

from dfal.data import datasets
from dfal.errors import DfalError
from dfal.experiments.jobs import Job
from dfal.experiments.store import Record
from dfal.plugins import describe_exception

Records: TypeAlias = Generator[tuple[Any, Record], None, None]
"""A job and one round of it, again and again; those of one job in their order."""

MAX_LOSSES = 3
"""How often in a row the worker of a job may be lost without a new round."""


@dataclass(frozen=True)
class Unfinished:
    """A job with its rounds so far, and the rounds of each of its sources.

    Attributes:
        job: the job.
        past: its stored rounds.
        sources: the stored rounds of each of its sources.
        fingerprint: of the data that the study runs on.
    """

    job: Any
    past: list[Record]
    sources: list[list[Record]]
    fingerprint: str

    def run(self) -> Iterator[Record]:
        """Yield the missing rounds.

        Raises:
            DfalError: where this machine has other data under the name of the data set.
        """
        data = self.job.data()
        if datasets.load(self.job.dataset).fingerprint != self.fingerprint:
            raise DfalError(
                f"the data set {self.job.dataset} of a worker is not the one that the study began"
                " with: put the same files on all machines"
            )
        yield from self.job.run(data, self.past, self.sources)


@dataclass(frozen=True)
class Task:
    """A job to run.

    Attributes:
        job: the job.
        unfinished: reads its rounds from the store, all that are stored when it is called.
    """

    job: Job
    unfinished: Callable[[], Unfinished]


@runtime_checkable
class Executor(Protocol):
    """Where jobs run."""

    @property
    def elsewhere(self) -> bool:
        """Return whether jobs run on other machines, whose devices this one may lack."""

    def __call__(self, tasks: Sequence[Task], processes: int | None, folder: Path) -> Records:
        """Run jobs, and yield each round as soon as it is made.

        A round is on disk when the next one is asked for. Closing the generator, as Ctrl-C does,
        ends all workers.

        Args:
            tasks: the jobs, the first ones first.
            processes: how many run at a time; None for the executor's default.
            folder: next to the store, not there yet, for files of the executor.

        Raises:
            DfalError: if a job fails or its workers are lost again and again.
        """


@dataclass(frozen=True)
class Failure:
    """Why a job ended early.

    Attributes:
        error: for the user.
        traceback: of an error that is not for the user; else empty.
    """

    error: DfalError
    traceback: str = ""


@dataclass(frozen=True)
class Workplace:
    """What a worker on another machine takes over from the process that started it.

    Attributes:
        folder: the working directory.
        path: folders in which modules are found.
        places: where data sets have moved to.
    """

    folder: str = field(default_factory=os.getcwd)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    places: dict[str, str] = field(default_factory=lambda: dict(datasets.PLACES))

    def enter(self) -> None:
        """Find modules and data where the other process does, as far as they are there."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path += [folder for folder in self.path if folder not in sys.path]
        datasets.move(self.places)
        torch.set_num_threads(1)
        keep_memory()


def pack(unfinished: Unfinished) -> bytes:
    """Return a job as bytes, for a worker.

    Raises:
        DfalError: if pickle cannot send it.
    """
    # Plain pickle sends tensors by value; multiprocessing's own would pass a file handle for each.
    try:
        return pickle.dumps(unfinished)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise DfalError(
            f"{unfinished.job.label} cannot be sent to another process"
            f" ({describe_exception(error)}): run it in one process"
        ) from error


def messages(packed: bytes) -> Iterator[bytes]:
    """Run a job in a worker, and yield its records as bytes, then None or a `Failure`.

    Args:
        packed: what `pack` returned.
    """
    try:
        unfinished: Unfinished = pickle.loads(packed)
        for record in unfinished.run():
            yield pickle.dumps(record)
        yield pickle.dumps(None)
    except Exception as error:
        yield pickle.dumps(_failure(error))


def run_safely(function: Callable[..., Any], *arguments: Any) -> bytes:
    """Return what a function returns in a worker as bytes, or a `Failure`."""
    try:
        return pickle.dumps(function(*arguments))
    except Exception as error:
        return pickle.dumps(_failure(error))


def _failure(error: Exception) -> Failure:
    """Return what a worker sends of the exception that is being handled."""
    if isinstance(error, DfalError):
        return Failure(error)
    # It is one of the user's code, or a mistake in ours.
    sentence = f"a worker process failed ({describe_exception(error)}): its traceback is above"
    return Failure(DfalError(sentence), traceback.format_exc())


def read_message(message: bytes) -> Record | None:
    """Return the record of a message, or None at the end of a job.

    Raises:
        DfalError: the job's error, after writing its traceback to standard error.
    """
    record: Record | None = unpack(message)
    return record


def unpack(message: bytes) -> Any:
    """Return what a worker sent.

    Raises:
        DfalError: the worker's error, after writing its traceback to standard error.
    """
    content = pickle.loads(message)
    if isinstance(content, Failure):
        sys.stderr.write(content.traceback)
        raise content.error
    return content


class Losses:
    """Counts the workers that jobs lost since their last round."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def progress(self, job: Job) -> None:
        """Forget the losses of a job that has made a round."""
        self._counts.pop(job.id, None)

    def lost(self, job: Job, reason: str) -> None:
        """Say that a job has lost its worker and is run again from its last stored round.

        Raises:
            DfalError: where it was lost too often.
        """
        count = self._counts[job.id] = self._counts.get(job.id, 0) + 1
        if count >= MAX_LOSSES:
            raise DfalError(
                f"{job.label} lost its worker {count} times in one round ({reason}): see that"
                " memory and time suffice, and run again with --resume"
            )
        sys.stderr.write(f"dfal: {job.label} lost its worker ({reason}) and resumes\n")


def parse_settings(text: str) -> dict[str, str | int | float]:
    """Return the settings name=value,name=value behind the name of an executor.

    Numbers become numbers.

    >>> parse_settings("partition=gpu,timeout_min=60")
    {'partition': 'gpu', 'timeout_min': 60}

    Raises:
        DfalError: for a part that is no setting.
    """
    settings: dict[str, str | int | float] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not (name.isidentifier() and equals and value):
            raise DfalError(f"--executor has {part!r}, which is no setting: give name=value")
        settings[name] = _number(value)
    return settings


def _number(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def keep_memory() -> None:
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
def one_thread() -> Iterator[None]:
    """Compute with one thread inside the block."""
    keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
