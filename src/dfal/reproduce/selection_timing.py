"""Time a selection by repeating it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments.jobs import Job
from dfal.experiments.measuring import Clock
from dfal.experiments.serialization import stored_kind
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.nn.networks import build
from dfal.nn.training import Training, fit
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.seeding import derive_seed, generator
from dfal.strategies import name_of


@dataclass(frozen=True)
class SelectionTiming(Job):
    """Repeated selections of one strategy from one pool with one network.

    Each repetition is a round, whose cost `select` is its seconds. Nothing is labelled.

    Attributes:
        dataset, model: the data set and the network.
        strategy: the strategy that is timed.
        labelled, unlabelled: |L| and |U|, drawn at random. The network is trained on L, and all of
            U are candidates unless the strategy draws fewer.
        picks: images to select.
        repeats: timed selections, after one that is not timed.
        seed: of the pool, the network and the selections.
        training: how the network is trained.
        device: where it is trained.
    """

    dataset: str
    model: str
    strategy: Strategy
    labelled: int = 100
    unlabelled: int = 800
    picks: int = 10
    repeats: int = 5
    seed: int = 0
    training: Training = Training(epochs=30)
    device: str = "cpu"

    @property
    def label(self) -> str:
        """Return the strategy."""
        return name_of(self.strategy)

    @property
    def round_costs(self) -> list[float]:
        """Return the same cost for each repetition."""
        return [1.0] * self.repeats

    def check(self, data: Dataset) -> None:
        """Check that there are enough images, and that the strategy can select with the network.

        Raises:
            DfalError: if not.
        """
        if self.labelled + self.unlabelled > len(data.images):
            raise DfalError(
                f"labelled = {self.labelled} and unlabelled = {self.unlabelled} are more than the"
                f" {len(data.images)} images of {self.dataset}: give fewer"
            )
        Trial(
            self.dataset,
            self.model,
            self.strategy,
            annotations=self.labelled,
            first=1,
            device=self.device,
        ).check(data)

    def finished(self, past: Sequence[Record]) -> bool:
        """Return whether every repetition has its round."""
        return len(past) == self.repeats

    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]:
        """Yield the missing repetitions."""
        if self.finished(past):
            return
        order = torch.randperm(len(data.images), generator=generator(self.seed, 0, "question"))
        order = order[: self.labelled + self.unlabelled]
        labels = {index: int(data.labels[order[index]]) for index in range(self.labelled)}
        pool = Pool.new(data.images.take(order), labels)
        model = fit(
            lambda: build(self.model, data.images.shape, len(data.classes)),
            pool.labelled_data(self.device),
            self.training,
            derive_seed(self.seed, 0, "fit"),
        )
        clock = Clock()
        select = clock.timed("select", self.strategy)
        for round in range(len(past) - 1, self.repeats):
            query = select(model, pool, self.picks, generator(self.seed, 0, "select"))
            costs = clock.lap()
            if round < len(past):
                continue  # the first one warms caches up
            measurements: dict[str, float] = {
                "labelled": self.labelled,
                "unlabelled": self.unlabelled,
                "picks": len(query.indices),
            }
            if query.bound is not None:
                measurements |= {"radius": float(query.scores[0]), "bound": query.bound}
            yield Record.without_query(round, measurements, costs)


stored_kind(SelectionTiming, "SelectionTiming", first_name="dfal.reproduce.question.Question")
