"""Compute the parts of a pool in this process, in worker processes, or on a Ray cluster."""

import pickle
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import torch

from dfal.errors import DfalError
from dfal.experiments.executors import on_ray
from dfal.experiments.executors.base import (
    MAX_LOSSES,
    Workplace,
    keep_memory,
    one_thread,
    run_safely,
    unpack,
)
from dfal.large_pools.scoring import Job, run_part
from dfal.processes import death_errors, start_worker

CURE = "run the same command again with fewer --workers"
"""What to do when a worker dies."""

Part: TypeAlias = tuple[int, ...]
Results: TypeAlias = Generator[tuple[Part, Any], None, None]
"""A part and what `run_part` returned for it, in any order."""
Run: TypeAlias = Callable[[Job, Sequence[Part], Callable[[], float]], Results]
"""What computes parts of a job."""


def pack(job: Job) -> bytes:
    """Return a job as bytes, without what this process has opened."""
    return pickle.dumps(replace(job, blocks=replace(job.blocks)))


def here(job: Job, parts: Sequence[Part], limit: Callable[[], float]) -> Results:
    """Compute parts in this process, one after the other."""
    with one_thread():
        for part in parts:
            yield part, run_part(job, part, limit())


def beside(job: Job, parts: Sequence[Part], limit: Callable[[], float], workers: int) -> Results:
    """Compute parts in worker processes of this machine.

    Raises:
        DfalError: where a worker fails or dies.
    """
    waiting, busy = deque(parts), dict[Any, Part]()
    processes: dict[Any, BaseProcess] = {}
    pipe: Any

    def dispatch(pipe: Any) -> None:
        busy[pipe] = waiting.popleft()
        with death_errors(processes[pipe], CURE):
            pipe.send((busy[pipe], limit()))

    try:
        for _ in range(min(workers, len(parts))):
            process, pipe = start_worker(_work, pack(job))
            processes[pipe] = process
            dispatch(pipe)
        while busy:
            for pipe in wait(list(busy)):
                part = busy.pop(pipe)
                with death_errors(processes[pipe], CURE):
                    message = pipe.recv_bytes()
                result = unpack(message)
                if waiting:
                    dispatch(pipe)
                yield part, result
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def _work(pipe: Connection, job: bytes) -> None:
    """Compute the parts that a pipe brings in this worker process."""
    torch.set_num_threads(1)
    keep_memory()
    opened: Job = pickle.loads(job)
    try:
        while True:
            part, limit = pipe.recv()
            pipe.send_bytes(run_safely(run_part, opened, part, limit))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone


def on_cluster(
    job: Job,
    parts: Sequence[Part],
    limit: Callable[[], float],
    executor: on_ray.Ray,
    workers: int | None,
) -> Results:
    """Compute parts in a pool of Ray actors. The part of one that is lost is computed again.

    Raises:
        DfalError: where a worker fails, or one part loses its worker again and again.
    """
    ray = on_ray.ray_module()
    waiting, busy, losses = deque(parts), dict[Any, Part](), dict[Part, int]()
    with on_ray.connected(ray, executor.address):
        resources = {
            "num_cpus": executor.cpus,
            "num_gpus": executor.gpus if job.device != "cpu" else 0,
        }
        crew = on_ray.Workers(ray, resources, _Actor, Workplace(), pack(job))
        room = int(ray.cluster_resources().get("CPU", 1) // max(executor.cpus, 0.01)) or 1
        crew.add(min(workers or room, len(parts)))
        try:
            while waiting or busy:
                worker, answer = crew.wait()
                part = busy.pop(worker, None)
                if isinstance(answer, on_ray.WorkerLost):
                    if part is not None:
                        waiting.appendleft(part)
                        losses[part] = losses.get(part, 0) + 1
                        if losses[part] >= MAX_LOSSES:
                            raise DfalError(
                                f"a part of the pool lost its worker {MAX_LOSSES} times ({answer}):"
                                " see that its memory suffices, and run the same command again"
                            )
                    crew.add(1)
                    continue
                if waiting:
                    busy[worker] = waiting.popleft()
                    crew.ask(worker, "part", busy[worker], limit())
                if part is not None:
                    yield part, unpack(answer)
        finally:
            crew.end()


class _Actor:
    """Computes parts in a process of the cluster."""

    def __init__(self, place: Workplace, job: bytes):
        place.enter()
        self._job: Job = pickle.loads(job)

    def ready(self) -> None:
        """Return when the process is there."""

    def part(self, blocks: Part, limit: float) -> bytes:
        """Compute a part."""
        return run_safely(run_part, self._job, blocks, limit)
