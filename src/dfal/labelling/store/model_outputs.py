"""Store what the trainer and the decoder find out.

Networks, their rankings and judgements, and which images cannot be read.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from dfal.labelling.store.event_log import EventLog
from dfal.labelling.store.records import Judgement, Model, RankedImage


class ModelOutputs:
    """What the trainer and the decoder write, and the page reads.

    Args:
        log: the open store.
    """

    def __init__(self, log: EventLog):
        self._log = log

    def add_model(
        self, model: Model, queue: Sequence[RankedImage], judgements: Sequence[Judgement] = ()
    ) -> None:
        """Add a network that was trained: its ranking of the images holds from now on."""
        with self._log.adding() as transaction:
            transaction.add_model(model, queue)
            transaction.add_judgements(model.id, judgements)
            if self._log.state.error:
                transaction.add_error("")

    def add_learner(self, backbone: str, why: str) -> None:
        """Add what the next networks learn from, and why, where it is not what the store says."""
        with self._log.adding() as transaction:
            before = self._log.state.learner
            if before is None or (before.backbone, before.why) != (backbone, why):
                transaction.add_learner(backbone, why)

    def add_coverage(self, images: Sequence[int]) -> None:
        """Add the images to query before there is a network, the first to be first."""
        with self._log.adding() as transaction:
            if list(images) != self._log.state.coverage:
                transaction.add_coverage(images)

    def add_judgements(self, model: int, judgements: Sequence[Judgement]) -> None:
        """Add what networks that were not trained on some images predict for them."""
        with self._log.adding() as transaction:
            transaction.add_judgements(model, judgements)

    def judgements(self) -> dict[int, Judgement]:
        """Return the latest judgement of each image that a network judged."""
        return self._log.judgements()

    def add_error(self, text: str) -> None:
        """Add why training failed. The page shows it until a network is trained again."""
        with self._log.adding() as transaction:
            if text != self._log.state.error:
                transaction.add_error(text)

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """Set aside images that cannot be read, image → reason.

        They are not queried until they are restored.
        """
        unreadable = self._log.state.unreadable
        new = {image: reason for image, reason in reasons.items() if image not in unreadable}
        if new:
            with self._log.adding() as transaction:
                transaction.set_aside(new)

    def restore(self, readable: Bool[np.ndarray, "n"]) -> None:
        """Restore the images that were set aside and can be read after all."""
        restored = {
            image: ""
            for image in self._log.state.unreadable
            if image < len(readable) and readable[image]
        }
        if restored:
            with self._log.adding() as transaction:
                transaction.set_aside(restored)

    def ranked_image(self, question: int) -> RankedImage | None:
        """Return a question's image as the network ranked it, without its twin.

        Returns:
            None where no network chose it.
        """
        return self._log.ranked_image(question)

    def twin(self, question: int) -> Float[np.ndarray, "d"] | None:
        """Return the twin minus the image of a question, flat; None where there is none."""
        return self._log.twin(question)

    def twins(self) -> dict[int, Float[np.ndarray, "d"]]:
        """Return the twin minus the image, flat, of each image that is trained on with one."""
        return self._log.twins()
