"""Run jobs on a Ray cluster: workers are actors, each of which gets one job at a time.

A worker is asked for one record after the other, which works through Ray's client too.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfal.data.sources.base import package
from dfal.errors import DfalError, first_line
from dfal.experiments.executors.base import (
    MAX_LOSSES,
    Losses,
    Records,
    Task,
    Workplace,
    messages,
    pack,
    parse_settings,
    read_message,
)

PATIENCE = 30.0
"""Seconds without a worker after which a line says what is waited for."""


@dataclass(frozen=True)
class Ray:
    """Runs jobs on a Ray cluster, as many at a time as it has room for.

    Attributes:
        address: of the cluster: ray://host:10001 or host:6379. Without one it is that of this
            machine or of the variable RAY_ADDRESS, or else a cluster that is started here.
        cpus: processors of a worker.
        gpus: GPUs of a worker whose jobs run on one; a fraction shares it.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 1
    elsewhere = True

    @classmethod
    def of(cls, settings: str) -> "Ray":
        """Return the executor with what stands behind its name: an address, gpus=0.5, cpus=2.

        Raises:
            DfalError: for what is no setting, and without Ray.
        """
        address, _, rest = settings.partition(",")
        if "=" in address:
            address, rest = "", settings
        numbers = parse_settings(rest)
        for name, value in numbers.items():
            if name not in {"cpus", "gpus"} or isinstance(value, str) or value < 0:
                raise DfalError(
                    f"--executor ray has no setting {name}={value}: give cpus or gpus with a number"
                )
        if address.startswith("//"):
            address = f"ray:{address}"
        ray_module()
        cpus, gpus = (float(numbers.get(name, 1)) for name in ("cpus", "gpus"))
        return cls(address or None, cpus, gpus)

    def __call__(self, tasks: Sequence[Task], processes: int | None, folder: Path) -> Records:
        """Run jobs, and yield each round as soon as it is made.

        Args:
            tasks: the jobs.
            processes: how many run at a time; None for as many as the cluster has room for.
            folder: not used.

        Raises:
            DfalError: without Ray or its cluster, if a job fails, or is lost again and again.
        """
        ray = ray_module()
        gpus = self.gpus if any(task.job.device != "cpu" for task in tasks) else 0
        with connected(ray, self.address):
            workers = Workers(ray, {"num_cpus": self.cpus, "num_gpus": gpus}, _Worker, Workplace())
            try:
                yield from _run(workers, tasks, min(processes or len(tasks), len(tasks)))
            finally:
                workers.end()


def ray_module() -> Any:
    """Return the package.

    Raises:
        DfalError: without it.
    """
    return package("ray", "--executor ray", "ray")


def _run(workers: "Workers", tasks: Sequence[Task], at_a_time: int) -> Records:
    """Give each worker that is free the next job, and yield what they make."""
    waiting, losses = deque(tasks), Losses()
    busy: dict[Any, Task] = {}  # by worker
    workers.add(at_a_time)
    while waiting or busy:
        worker, answer = workers.wait()
        task = busy.pop(worker, None)
        if isinstance(answer, WorkerLost):
            if task is not None:
                losses.lost(task.job, str(answer))
                waiting.appendleft(task)
            workers.add(1)
            continue
        if task is not None and (record := read_message(answer)) is not None:
            busy[worker] = task
            workers.ask(worker, "following")  # while this process stores the record
            yield task.job, record
            losses.progress(task.job)
        elif waiting:
            busy[worker] = waiting.popleft()
            workers.ask(worker, "first", pack(busy[worker].unfinished()))


class WorkerLost(Exception):  # noqa: N818
    """The process of a worker, or its machine, is gone."""


class Workers:
    """Actors of Ray, and the one call that each of them answers at the moment.

    Args:
        ray: the module.
        resources: what each of them needs.
        kind: their class, with a method `ready` that returns when the process is there.
        arguments: what they are made with.
    """

    def __init__(self, ray: Any, resources: dict[str, float], kind: type, *arguments: Any):
        self._ray, self._resources = ray, resources
        self._kind, self._arguments = ray.remote(kind).options(**resources), arguments
        self._calls: dict[Any, tuple[Any, str]] = {}  # reference to an answer → worker, method
        self._unready, self._told = 0, False

    def add(self, count: int) -> None:
        """Start actors; each has answered its first call when it is there."""
        for _ in range(count):
            self.ask(self._kind.remote(*self._arguments), "ready")

    def ask(self, worker: Any, method: str, *arguments: Any) -> None:
        """Call a method of an actor."""
        self._calls[getattr(worker, method).remote(*arguments)] = worker, method

    def wait(self) -> tuple[Any, Any]:
        """Return an actor that has answered, and its answer, or `WorkerLost` where it is gone.

        Raises:
            DfalError: where one actor after the other cannot be started.
        """
        began = time.monotonic()
        while True:
            ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=1.0)
            if ready:
                break
            if not self._told and time.monotonic() - began > PATIENCE:
                self._told = True
                if all(method == "ready" for _, method in self._calls.values()):
                    needs = ", ".join(f"{n} = {value:g}" for n, value in self._resources.items())
                    sys.stderr.write(
                        f"dfal: Ray has started no worker yet (each needs {needs}), wait\n"
                    )
        worker, method = self._calls.pop(ready[0])
        try:
            answer = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            self._unready += method == "ready"
            if self._unready >= MAX_LOSSES:
                reason = str(error).strip().splitlines()[-1].strip()
                raise DfalError(
                    f"no worker of Ray can be started ({reason}): install the same dfal on all"
                    " machines of its cluster"
                ) from error
            return worker, WorkerLost(first_line(error))
        self._unready *= method != "ready"
        return worker, answer

    def end(self) -> None:
        """End all actors that are at work."""
        for worker, _ in self._calls.values():
            self._ray.kill(worker)
        self._calls.clear()


@contextlib.contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one here; what is connected already stays so.

    Raises:
        DfalError: where there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        token = "" if os.environ.get("RAY_AUTH_MODE") else ", set RAY_AUTH_MODE=token if it has one"
        raise DfalError(
            f"Ray cannot be reached at {address or 'this machine'} ({first_line(error)}): start its"
            f" cluster{token}, or leave out the address to start one here"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process at once
    try:
        yield
    finally:
        ray.shutdown()


class _Worker:
    """Runs jobs in a process of the cluster."""

    def __init__(self, place: Workplace):
        place.enter()

    def ready(self) -> None:
        """Return when the process is there."""

    def first(self, packed: bytes) -> bytes:
        """Start a job, and return its first message."""
        self._messages = messages(packed)
        return next(self._messages)

    def following(self) -> bytes:
        """Return the next message of the job."""
        return next(self._messages)
