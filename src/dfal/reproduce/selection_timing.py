"""How long a question takes: the same one, asked again and again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments.serialization import id_of, stored_kind, to_json
from dfal.experiments.store import Record
from dfal.experiments.trial import Clock, Trial
from dfal.nn.networks import build
from dfal.nn.training import Training, fit
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.query import Query
from dfal.seeding import derive_seed, generator
from dfal.strategies import name_of


@dataclass(frozen=True)
class SelectionTiming:
    """A round is one repetition; its cost `select` are the seconds. Nothing is learnt from the
    answers.

    Attributes:
        labelled, unlabelled: |L| and |U|, drawn at random. The network is trained on L, and all of
            U are candidates unless the strategy draws fewer.
        picks: how many images to ask about.
        repeats: after one question that is not timed.
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
    def id(self) -> str:
        """Of the configuration."""
        return id_of(self.to_json())

    def to_json(self) -> str:
        """The whole configuration as text."""
        return to_json(self)

    @property
    def sources(self) -> tuple[Trial, ...]:
        """None."""
        return ()

    @property
    def label(self) -> str:
        """What tells it from others."""
        return name_of(self.strategy)

    @property
    def efforts(self) -> list[float]:
        """Of each repetition: the same."""
        return [1.0] * self.repeats

    def check(self, data: Dataset) -> None:
        """Raise unless the question can be asked of these data."""
        if self.labelled + self.unlabelled > len(data.images):
            raise DfalError(
                f"labelled = {self.labelled} and unlabelled = {self.unlabelled} are more than the"
                f" {len(data.images)} images of {self.dataset}: ask for fewer"
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
        """Whether it was asked often enough."""
        return len(past) == self.repeats

    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]:
        """The repetitions that are missing."""
        if self.finished(past):
            return
        order = torch.randperm(len(data.images), generator=generator(self.seed, 0, "question"))
        order = order[: self.labelled + self.unlabelled]
        known = {place: int(data.labels[order[place]]) for place in range(self.labelled)}
        pool = Pool.new(data.images.take(order), known)
        model = fit(
            lambda: build(self.model, data.images.shape, len(data.classes)),
            pool.labelled_data(self.device),
            self.training,
            derive_seed(self.seed, 0, "fit"),
        )
        clock = Clock()
        ask = clock.timed("select", self.strategy)
        none = torch.empty(0, dtype=torch.int64)
        for round in range(len(past) - 1, self.repeats):
            query = ask(model, pool, self.picks, generator(self.seed, 0, "select"))
            costs = clock.lap()
            if round < len(past):
                continue  # the first one warms caches up
            measured = {
                "labelled": self.labelled,
                "unlabelled": self.unlabelled,
                "picks": len(query.indices),
            }
            proved = (
                {}
                if query.bound is None
                else {"radius": float(query.scores[0]), "bound": query.bound}
            )
            yield Record(round, Query.nothing(), none, none, none, measured | proved, costs)


stored_kind(SelectionTiming, "SelectionTiming", first_name="dfal.reproduce.question.Question")
