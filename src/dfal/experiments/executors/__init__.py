"""Executors: where the trials of a study run. Each is one file and one line in `EXECUTORS`."""

from typing import Any

from dfal.experiments.executors.base import Executor, Records, Task
from dfal.registry import Entry, Registry

__all__ = ["EXECUTORS", "Executor", "Records", "Task", "named"]

EXECUTORS: Registry[Any] = Registry(
    "executor",
    {
        "local": Entry("dfal.experiments.executors.local:Local", "processes of this machine"),
        "together": Entry(
            "dfal.experiments.executors.together:InStep",
            "processes of this machine, whose networks are trained in step, for a GPU",
        ),
        "ray": Entry("dfal.experiments.executors.on_ray:Ray", "workers of a Ray cluster"),
        "slurm": Entry(
            "dfal.experiments.executors.on_slurm:Slurm", "a Slurm job for each trial, by submitit"
        ),
    },
)
"""Name of an executor → its class, whose `of` reads what stands behind the name."""


def named(name: str) -> Executor:
    """Return an executor by its name, with its settings behind a colon: slurm:timeout_min=60.

    Raises:
        DfalError: for an unknown name or setting.
    """
    kind, _, settings = name.partition(":")
    executor: Executor = EXECUTORS[kind].of(settings)
    return executor
