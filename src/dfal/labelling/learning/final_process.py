"""Train a final model in a process of its own, and tell what it is doing.

`start(store)` returns it at once; its `status()` says what it is doing and how much is done.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dfal.errors import DfalError, first_line
from dfal.labelling.learning.final_settings import FinalSettings
from dfal.processes import start_worker

STOP_SECONDS = 5.0
"""Seconds that a process has to end."""
STATUS_SECONDS = 0.2
"""Seconds between two messages of a process."""
NICENESS = 5
"""Of that process: a page must answer without delay."""


@dataclass(frozen=True)
class Status:
    """What a training in another process is doing.

    Attributes:
        activity: what is done now, in words.
        done, total: how much of it.
        report: what came out, as `Report.to_dict`; None before.
        error: why there is no model, one sentence; empty where that is not so.
    """

    activity: str = "starting"
    done: int = 0
    total: int = 0
    report: dict[str, Any] | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Return whether it has ended, well or not."""
        return self.report is not None or bool(self.error)


class FinalTraining:
    """A final model that is trained in a process of its own; `start` begins one."""

    def __init__(self, process: BaseProcess, pipe: Connection):
        self._process, self._pipe, self._status = process, pipe, Status()

    def status(self) -> Status:
        """Return what is done now; at once, however long a step takes."""
        try:
            while not self._status.is_over and self._pipe.poll():
                self._status = self._pipe.recv()
        except (EOFError, OSError):
            self._status = replace(self._status, error="the training was ended from outside")
        return self._status

    def stop(self) -> None:
        """End it. A model that was there before stays."""
        self._process.terminate()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def start(
    store: Path, out: Path | None = None, settings: FinalSettings | None = None
) -> FinalTraining:
    """Train a final model in a process of its own, which ends when this one does.

    A page calls it when its button is pressed, asks for `FinalTraining.status` whenever it reports
    progress, and calls `stop` when it is closed or the training cancelled. Only the store is
    shared, and it is only read.

    Args:
        store: as in `train_final`.
        out: the same.
        settings: the same.
    """
    return FinalTraining(*start_worker(_work, store, out, settings))


def _work(pipe: Connection, store: Path, out: Path | None, settings: FinalSettings | None) -> None:
    """Train a final model, and send what is done."""
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    last = 0.0

    def proceed(activity: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > STATUS_SECONDS:
            last = time.monotonic()
            pipe.send(Status(activity, done, total))

    try:
        from dfal.labelling.learning.final import train_final  # it loads PyTorch

        report = train_final(store, out, settings, proceed)
        pipe.send(Status("done", 1, 1, report.to_dict()))
    except Exception as error:
        text = str(error)
        if not isinstance(error, DfalError):
            text = f"{type(error).__name__}: {first_line(error)}"
        pipe.send(Status("failed", error=text))
