"""What networks find out about the images of a store: how they rank them, what they see in them,
and what cannot be read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from dfal.labelling.store.event_log import EventLog
from dfal.labelling.store.records import Model
from dfal.labelling.validation import check_index


@dataclass(frozen=True)
class RankedImage:
    """An image as a network ranks it.

    Attributes:
        image: its index.
        score: what the strategy ranked it by; inf where it has no bound.
        seen, other: the class that the network sees, and the one that is next.
        twin: the adversarial twin minus the image, and the class that the network sees in it. None
        where there is none.
    """

    image: int
    score: float
    predicted: int
    runner_up: int
    twin: Float[Tensor, "*image"] | None = None
    twin_predicted: int | None = None


@dataclass(frozen=True)
class Judgement:
    """What a network that was not trained on an image sees in it.

    Attributes:
        image: its index.
        seen: the class that the network sees.
        sure: the probability of that class, calibrated where there were enough labels to do so.
        distance: how far the boundary is, where the network has reason to doubt the label; else
        None.
    """

    image: int
    predicted: int
    confidence: float
    distance: float | None = None


class ModelOutputs:
    """The trainer and the decoder write here, the page reads.

    Args:
        log: the open store.
        clock: gives the time in seconds.
    """

    def __init__(self, log: EventLog, clock: Callable[[], float]):
        self._log, self._clock = log, clock

    def add_model(
        self, model: Model, queue: Sequence[RankedImage], judgements: Sequence[Judgement] = ()
    ) -> None:
        """A network was trained. It ranks the images anew, from now on."""
        rows = [
            (
                model.id,
                position,
                ranked.image,
                ranked.score if np.isfinite(ranked.score) else None,
                ranked.predicted,
                ranked.runner_up,
                ranked.twin_predicted,
                None if ranked.twin is None else ranked.twin.half().numpy().tobytes(),
            )
            for position, ranked in enumerate(queue)
        ]
        row = (
            model.id,
            model.at,
            model.last_answer_id,
            model.annotations,
            model.labelled_data,
            model.classes,
            model.seconds,
            model.watched.astype(np.int32).tobytes(),
            model.predicted.astype(np.int16).tobytes(),
        )
        with self._log.adding() as db:
            db.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.executemany("INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._add_judgements(db, model.id, judgements)
            if self._log.state.error:
                db.execute("INSERT INTO troubles (text, at) VALUES ('', ?)", (self._clock(),))

    def add_judgements(self, model: int, judgements: Sequence[Judgement]) -> None:
        """What networks that were not trained on them see in some images."""
        with self._log.adding() as db:
            self._add_judgements(db, model, judgements)

    def _add_judgements(self, db: Any, model: int, judgements: Sequence[Judgement]) -> None:
        rows = [
            (model, look.image, look.predicted, look.confidence, look.distance)
            for look in judgements
        ]
        db.executemany(
            "INSERT INTO looks (model, image, seen, sure, distance) VALUES (?, ?, ?, ?, ?)", rows
        )

    def add_error(self, text: str) -> None:
        """Training failed, and why. The page shows it until a network is trained again."""
        with self._log.adding() as db:
            if text != self._log.state.error:
                db.execute("INSERT INTO troubles (text, at) VALUES (?, ?)", (text, self._clock()))

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """These images cannot be read: they are not asked about any more, unless they are taken
        back."""
        new = [
            (image, reason, self._clock())
            for image, reason in reasons.items()
            if image not in self._log.state.unreadable
        ]
        if new:
            with self._log.adding() as db:
                db.executemany("INSERT INTO set_aside (image, reason, at) VALUES (?, ?, ?)", new)

    def restore(self, readable: Bool[np.ndarray, "n"]) -> None:
        """Take back the images that were set aside and can be read after all: they are asked about
        again."""
        back = [
            (image, "", self._clock())
            for image in self._log.state.unreadable
            if image < len(readable) and readable[image]
        ]
        if back:
            with self._log.adding() as db:
                db.executemany("INSERT INTO set_aside (image, reason, at) VALUES (?, ?, ?)", back)

    def ranked_image(self, question: int) -> RankedImage | None:
        """The image of a question as the network that chose it ranked it; None where chance did.
        Without its twin's pixels."""
        found = self._log.select(
            "SELECT q.image, q.score, q.seen, q.other, q.twin_seen FROM questions JOIN queue q"
            " USING (model, position) WHERE question = ?",
            (question,),
        )
        with self._log.parsing():
            for image, score, seen, other, twin_seen in found:
                check_index(image, len(self._log.state.paths))
                for label in (seen, other, twin_seen):
                    if label is not None:
                        check_index(label, len(self._log.state.classes))
                return RankedImage(
                    image, np.inf if score is None else score, seen, other, None, twin_seen
                )
        return None

    def twin(self, question: int) -> Float[np.ndarray, "d"] | None:
        """The adversarial twin minus the image of a question, flat; None where there is none."""
        found = self._log.select(
            "SELECT q.twin FROM questions JOIN queue q USING (model, position) WHERE question = ?"
            " AND q.twin IS NOT NULL",
            (question,),
        )
        with self._log.parsing():
            return _change(found[0][0]) if found else None

    def twins(self) -> dict[int, Float[np.ndarray, "d"]]:
        """For each image that is trained on and was asked about with a twin, the twin minus the
        image, flat."""
        found = self._log.select(
            "SELECT a.image, q.twin FROM answers a JOIN questions USING (question) JOIN queue q"
            " USING (model, position) WHERE q.twin IS NOT NULL ORDER BY a.answer"
        )
        trained_on = self._log.state.trained_on
        with self._log.parsing():
            return {image: _change(twin) for image, twin in found if trained_on[image]}


def _change(stored: bytes) -> Float[np.ndarray, "d"]:
    """A twin minus its image, as it is stored."""
    change: Float[np.ndarray, d] = np.frombuffer(stored, dtype=np.float16).astype(np.float32)
    if np.isnan(change).any():
        raise ValueError("a twin has values that are no numbers")
    return change
