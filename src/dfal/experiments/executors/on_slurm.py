"""Run each job as a job of Slurm, by submitit.

Records come back as files in a folder next to the store, which all nodes must share. A file has its
name only when it is whole, and is removed once the store has its record.
"""

import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfal.atomic import atomic_write
from dfal.data.sources.base import package
from dfal.errors import DfalError, first_line
from dfal.experiments.executors.base import (
    Losses,
    Records,
    Task,
    Workplace,
    messages,
    pack,
    parse_settings,
    read_message,
)

POLL = 0.2
"""Seconds between two looks into the folder."""
LATE = {"slurm": 30.0, "local": 1.0}
"""Seconds that the last files of a job may take until this machine sees them."""
MINUTES = 24 * 60
"""After which Slurm ends a job, where no timeout_min is given."""
OF_ALL_CLUSTERS = {
    *("cpus_per_task", "gpus_per_node", "mem_gb", "name", "nodes", "stderr_to_stdout"),
    *("tasks_per_node", "timeout_min"),
}
"""Parameters of submitit that are not Slurm's alone."""


@dataclass(frozen=True)
class Slurm:
    """Runs each job as a job of Slurm; all are queued at once.

    Attributes:
        parameters: of submitit, those of Slurm with or without their prefix: partition.
        cluster: slurm, or local for processes of this machine that submitit starts.
    """

    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    cluster: str = "slurm"
    elsewhere = True

    @classmethod
    def of(cls, settings: str) -> "Slurm":
        """Return the executor with the settings behind its name: partition=gpu,timeout_min=60.

        Raises:
            DfalError: for what is no setting, and without submitit or Slurm.
        """
        parameters = parse_settings(settings)
        cluster = str(parameters.pop("cluster", cls.cluster))
        if cluster not in LATE:
            raise DfalError(f"--executor slurm:cluster={cluster} must be slurm or local")
        _submitit()
        if cluster == "slurm" and not shutil.which("srun"):
            raise DfalError(
                "--executor slurm needs srun, which is not on this machine: start it where Slurm"
                " is, or try slurm:cluster=local"
            )
        return cls(parameters, cluster)

    def __call__(self, tasks: Sequence[Task], processes: int | None, folder: Path) -> Records:
        """Run jobs, and yield each round as soon as it is made.

        Args:
            tasks: the jobs.
            processes: how many are queued at a time; None for all.
            folder: for files; what a killed process left there is removed, which ends its jobs at
                their next round.

        Raises:
            DfalError: if a job fails, or is lost again and again, or Slurm does not take it.
        """
        submit = self._submitter(tasks, folder)
        waiting, running, losses = deque(tasks), list[_Submitted](), Losses()
        over: list[_Submitted] = []
        try:
            while waiting or running:
                while waiting and len(running) < (processes or len(tasks)):
                    running.append(submit(waiting.popleft()))
                idle = True
                for submitted in list(running):
                    for record in submitted.records():
                        idle = False
                        yield submitted.task.job, record
                        losses.progress(submitted.task.job)
                    if submitted.ended or submitted.is_lost(LATE[self.cluster]):
                        running.remove(submitted)
                        over.append(submitted)
                        if not submitted.ended:
                            losses.lost(submitted.task.job, submitted.reason())
                            waiting.appendleft(submitted.task)
                if idle:
                    time.sleep(POLL)
        finally:
            for submitted in running:
                submitted.abandon()
            if self.cluster == "local":  # these are processes of our own
                for submitted in (*running, *over):
                    submitted.job._process.wait()
            shutil.rmtree(folder, ignore_errors=True)

    def _submitter(self, tasks: Sequence[Task], folder: Path) -> Any:
        """Return the function that queues a job.

        Raises:
            DfalError: without submitit, and for a parameter that it does not know.
        """
        submitit = _submitit()
        gpus = {"gpus_per_node": 1} if any(task.job.device != "cpu" for task in tasks) else {}
        parameters = {"name": "dfal", "timeout_min": MINUTES, "cpus_per_task": 1, **gpus}
        for name, value in self.parameters.items():
            plain = name in OF_ALL_CLUSTERS or name.startswith("slurm_")
            parameters[name if plain else f"slurm_{name}"] = value
        shutil.rmtree(folder, ignore_errors=True)
        place, run = Workplace(), folder / uuid.uuid4().hex  # jobs of a killed run know another
        try:
            executor = submitit.AutoExecutor(folder=run / "logs", cluster=self.cluster)
            executor.update_parameters(**parameters)
        except (RuntimeError, ValueError, NameError, AssertionError, OSError) as error:
            raise DfalError(
                f"submitit cannot use {self.cluster} ({first_line(error)}): see the settings behind"
                " --executor slurm:"
            ) from error

        def submit(task: Task) -> _Submitted:
            inbox = run / uuid.uuid4().hex
            inbox.mkdir(parents=True)
            try:
                job = executor.submit(_work, place, pack(task.unfinished()), inbox)
            except (RuntimeError, OSError) as error:
                raise DfalError(f"Slurm did not take a job: {first_line(error)}") from error
            return _Submitted(task, job, inbox)

        return submit


def _submitit() -> Any:
    return package("submitit", "--executor slurm", "slurm")


@dataclass
class _Submitted:
    """A queued or running job, and the messages that were read from it."""

    task: Task
    job: Any
    inbox: Path
    read: int = 0
    ended: bool = False
    gone: float | None = None

    def records(self) -> Iterator[Any]:
        """Yield the new records; a file is removed when its record is stored."""
        there = {entry.name for entry in os.scandir(self.inbox)}
        while not self.ended and str(self.read) in there:
            file = self.inbox / str(self.read)
            record = read_message(file.read_bytes())
            if record is None:
                self.ended = True
            else:
                yield record
            file.unlink()
            self.read += 1

    def abandon(self) -> None:
        """End the job: at once, or at its next round where it ignores interrupts."""
        with suppress(OSError):
            self.inbox.rename(self.inbox.with_suffix(".abandoned"))
        self.job.cancel(check=False)

    def is_lost(self, late: float) -> bool:
        """Return whether the job was over, without its last message, some seconds ago."""
        if not self.job.done():
            return False
        self.gone = self.gone or time.monotonic()
        return time.monotonic() - self.gone > late

    def reason(self) -> str:
        """Return why the job was lost, in the last words of its log or those of Slurm."""
        log = [line.strip() for line in (self.job.stderr() or "").splitlines() if line.strip()]
        return log[-1][-100:] if log else str(self.job.state).lower()


def _work(place: Workplace, packed: bytes, inbox: Path) -> None:
    """Run a job in its worker, and write its records into a folder until that is gone."""
    place.enter()
    for number, message in enumerate(messages(packed)):
        if not inbox.is_dir():
            return  # nobody waits for the rest
        with atomic_write(inbox / str(number), "free some space", "a record") as part:
            part.write_bytes(message)
