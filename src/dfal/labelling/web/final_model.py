"""The final model that is trained when somebody presses the button for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from dfal.labelling.learning.final_process import FinalTraining, Status
from dfal.labelling.store.checks import ConflictError
from dfal.labelling.web.replies import Reply, Text


class MeasuredReply(Reply):
    """Accuracy on the hold-out with its 95 % Wilson interval.

    Attributes:
        right, of: hold-out images that the model predicts, and their number.
        value, low, high: the accuracy and the ends of the interval.
    """

    right: int
    of: int
    value: float
    low: float
    high: float


class FinalModelReply(Reply):
    """The final model.

    Attributes:
        state: "none" before the first training, and after one that was cancelled; "unavailable"
            where none can be started from the page.
        activity, done, total: what the training does now, and how much of it is done.
        labels: images with a label that the model was trained on; 0 before it is done.
        file: name of the model's file, next to the store; null before it is done.
        network: what the model is, in words.
        accuracy: null without a hold-out.
        notes: what users of the model must know, in sentences.
        error: why there is no model; empty where the training did not fail.
    """

    state: Literal["unavailable", "none", "running", "done", "failed"]
    activity: Text
    done: int
    total: int
    labels: int
    file: Text | None
    network: Text
    accuracy: MeasuredReply | None
    notes: list[Text]
    error: Text

    @classmethod
    def of(cls, status: Status | None) -> "FinalModelReply":
        """Return the reply for a training; None where there was none."""
        changed: dict[str, Any]
        if status is None:
            changed = {}
        elif status.error:
            changed = {"state": "failed", "error": status.error}
        elif status.report is None:
            amount = {"done": status.done, "total": status.total}
            changed = {"state": "running", "activity": status.activity, **amount}
        else:
            report = status.report
            changed = {name: report[name] for name in ("labels", "network", "accuracy", "notes")}
            changed |= {"state": "done", "file": Path(report["path"]).name}
        return cls.model_validate(NO_MODEL | changed)


NO_MODEL: dict[str, Any] = {
    "state": "none",
    "activity": "",
    "done": 0,
    "total": 0,
    "labels": 0,
    "file": None,
    "network": "",
    "accuracy": None,
    "notes": [],
    "error": "",
}


class FinalModel:
    """Trains one final model at a time.

    Args:
        begin: starts a training; None where none can be started.
    """

    def __init__(self, begin: Callable[[], FinalTraining] | None):
        self._begin, self._lock = begin, threading.Lock()
        self._training: FinalTraining | None = None

    def start(self) -> FinalModelReply:
        """Start a training.

        Raises:
            ConflictError: where one runs, or none can be started.
        """
        with self._lock:
            if self._begin is None:
                raise ConflictError("no model can be trained from here: use dfal train")
            if self._reply().state == "running":
                raise ConflictError("the final model is being trained already")
            self._training = self._begin()
            return self._reply()

    def cancel(self) -> FinalModelReply:
        """End the training that runs. The file of an earlier one stays as it is."""
        with self._lock:
            if self._training is not None and self._reply().state == "running":
                self._training.stop()
                self._training = None
            return self._reply()

    def reply(self) -> FinalModelReply:
        """Return how far the training is, or what came out."""
        with self._lock:
            return self._reply()

    def _reply(self) -> FinalModelReply:
        if self._begin is None:
            return FinalModelReply.model_validate(NO_MODEL | {"state": "unavailable"})
        return FinalModelReply.of(None if self._training is None else self._training.status())
