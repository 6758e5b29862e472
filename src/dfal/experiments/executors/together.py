"""Run trials in worker processes of this machine, whose networks one process trains in step.

Each worker runs a trial as the executor `local` does. What `fit` trains goes through a pipe to one
more process, which has all networks of one structure take their steps at once.
"""

import itertools
import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from dfal.errors import DfalError
from dfal.experiments.executors.base import Records, Task, keep_memory, parse_settings
from dfal.experiments.executors.local import in_workers, work
from dfal.nn.stack import StackableTraining
from dfal.nn.together import Together, Trained, training_together
from dfal.processes import available_cores, start_worker

TRIALS_A_CORE = 3
"""Trials that run at a time by default: most of them wait for the process that trains."""
IMAGES = "images"
"""What the process that trains answers where it lacks the unlabelled images of a training."""


@dataclass(frozen=True)
class InStep:
    """Runs jobs on this machine, whose networks are trained in step.

    Attributes:
        networks: how many are trained at a time; 0 for as many as jobs run at a time.
    """

    networks: int = 0
    elsewhere = False

    @classmethod
    def of(cls, settings: str) -> "InStep":
        """Return the executor with the settings behind its name: networks=64.

        Raises:
            DfalError: for any other, and for what is no whole number of at least 1.
        """
        given = parse_settings(settings)
        networks = given.pop("networks", None)
        if given:
            raise DfalError(
                f"--executor together has no setting {', '.join(given)}: it takes networks="
            )
        if networks is None:
            return cls()
        if not isinstance(networks, int) or networks < 1:
            raise DfalError(
                "networks= of --executor together must be a whole number of at least 1 (got"
                f" {networks})"
            )
        return cls(networks)

    def __call__(self, tasks: Sequence[Task], processes: int | None, folder: Path) -> Records:
        """Run jobs, and yield each round as soon as it is made.

        Args:
            tasks: the jobs.
            processes: how many run at a time; None for all of them, at most three for each core.
            folder: not used.

        Raises:
            DfalError: if a job fails or a process dies.
        """
        count = min(processes or TRIALS_A_CORE * available_cores(), len(tasks))
        pipes = [get_context("spawn").Pipe() for _ in range(count)]
        trainer, alive = start_worker(
            _train, [theirs for _, theirs in pipes], self.networks or count
        )
        try:
            for _, theirs in pipes:
                theirs.close()
            yield from in_workers(tasks, count, _work, [(ours,) for ours, _ in pipes])
        finally:
            for end in (alive, *(ours for ours, _ in pipes)):
                end.close()
            trainer.terminate()
            trainer.join()


def _work(pipe: Connection, places: dict[str, str], trainer: Connection) -> None:
    """Run the jobs that a pipe brings, with a trainer behind another pipe."""

    def train(trainings: Sequence[StackableTraining]) -> list[Trained] | None:
        try:
            trainer.send_bytes(pickle.dumps([_without_images(each) for each in trainings]))
            while (answer := pickle.loads(trainer.recv_bytes())) == IMAGES:
                trainer.send_bytes(pickle.dumps(trainings[0].unlabelled))
        except (EOFError, OSError):
            raise DfalError(
                "the process that trains all networks died, perhaps for lack of memory: run again"
                " with --resume and fewer --processes"
            ) from None
        trained: list[Trained] | None = answer
        return trained

    with training_together(train):
        work(pipe, places)


def _without_images(training: StackableTraining) -> StackableTraining:
    """Return a training as it is sent: on the CPU, and with the digest of unlabelled images only.

    Those are the whole pool, which is the same in all rounds and trials of a study.
    """
    unlabelled = training.unlabelled and replace(training.unlabelled, images=None)
    return replace(training.to("cpu"), unlabelled=unlabelled)


def _received(pipe: Connection, together: Together) -> list[StackableTraining]:
    """Return the trainings of a call of `fit`; unlabelled images are asked for where they lack."""
    trainings: list[StackableTraining] = pickle.loads(pipe.recv_bytes())
    if any(map(together.lacks_images, trainings)):
        pipe.send_bytes(pickle.dumps(IMAGES))
        unlabelled = pickle.loads(pipe.recv_bytes())  # those of all trainings of the call
        trainings = [replace(training, unlabelled=unlabelled) for training in trainings]
    return trainings


def _train(parent: Connection, pipes: list[Connection], slots: int) -> None:
    """Train what the workers ask for, until the last of them is gone.

    Args:
        parent: not used.
        pipes: to the workers.
        slots: how many networks are trained at a time.
    """
    torch.set_num_threads(1)
    keep_memory()
    together, calls, numbers = Together(slots), dict[int, _Call](), itertools.count()
    while pipes:
        pipe: Any  # `wait` takes other things, too
        for pipe in wait(pipes, 0 if together.busy else None):
            try:
                trainings = _received(pipe, together)
            except (EOFError, OSError):  # the worker is gone
                pipes.remove(pipe)
                for number in [number for number, call in calls.items() if call.pipe is pipe]:
                    calls.pop(number).end(together, number)
                continue
            number = next(numbers)
            calls[number] = _Call(pipe, len(trainings))
            for place, training in enumerate(trainings):
                together.add((number, place), training)
        for (number, place), result in together.advance().items():
            call = calls.get(number)
            if call is None:
                continue  # another of its trainings could not be stacked
            call.results[place] = result
            if result is None or len(call.results) == call.count:
                calls.pop(number).end(together, number)
                call.answer()


@dataclass(frozen=True)
class _Call:
    """What a worker asked for.

    Attributes:
        pipe: to the worker.
        count: how many trainings.
        results: of those that are done, by their places.
    """

    pipe: Connection
    count: int
    results: dict[int, Trained | None] = field(default_factory=dict)

    def end(self, together: Together, number: int) -> None:
        """End those of its trainings that are not done."""
        for place in range(self.count):
            if place not in self.results:
                together.drop((number, place))

    def answer(self) -> None:
        """Send the results, or None where a training could not be stacked."""
        stacked = all(self.results.values())
        results = [self.results[place] for place in range(self.count)] if stacked else None
        with suppress(OSError):  # the worker is gone, which the next look at its pipe shows
            self.pipe.send_bytes(pickle.dumps(results))
