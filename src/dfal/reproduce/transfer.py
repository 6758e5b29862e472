"""Train a network on the images and twins that were selected for another network."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments.jobs import Job
from dfal.experiments.measuring import Clock, evaluate, predicted
from dfal.experiments.serialization import stored_kind
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.nn.networks import build
from dfal.nn.training import Training, fit
from dfal.pool import Pool
from dfal.seeding import derive_seed, generator
from dfal.strategies import name_of

MIN_TWINS = 100
"""Twins that are shown to the other network, if so many follow."""


@dataclass(frozen=True)
class Transfer(Job):
    """Networks trained on the annotations of a stored trial at some budgets.

    Each budget is a round. Where twins follow in the trial, the next 100 of them are shown to the
    network, which has trained neither on them nor on their images: `fooled` is the fraction that it
    classifies differently from their image, `noise` the fraction of images that it classifies
    differently when they are moved as far in a random direction. For the network that each twin was
    made for, `fooled` is 1 by construction.

    Attributes:
        source: the trial that selected the images.
        model: the network that is trained; the source's own means another initialisation of it.
        at: the budgets in ascending order, each of which the trial has measured.
        training: how the network is trained.
        device: where it is trained.
    """

    source: Trial
    model: str
    at: tuple[int, ...]
    training: Training = Training()
    device: str = "cpu"

    def __post_init__(self) -> None:
        reached = range(self.source.first, self.source.annotations + 1)
        if (
            not self.at
            or list(self.at) != sorted(set(self.at))
            or not all(budget in reached for budget in self.at)
        ):
            raise DfalError(
                f"at = {self.at} must be ascending budgets from {reached[0]} to {reached[-1]}"
                " annotations"
            )

    @property
    def dataset(self) -> str:
        """Return the data set of the trial."""
        return self.source.dataset

    @property
    def sources(self) -> tuple[Trial, ...]:
        """Return the trial that selected the images."""
        return (self.source,)

    @property
    def label(self) -> str:
        """Return the trial and the network."""
        return (
            f"{name_of(self.source.strategy)} for {self.source.model} seed {self.source.seed}:"
            f" {self.model}"
        )

    @property
    def round_costs(self) -> list[float]:
        """Return the images that each round trains on, counted in each epoch."""
        return [float(budget * self.training.epochs) for budget in self.at]

    def check(self, data: Dataset) -> None:
        """Check that the trial and the network can run on these data."""
        self.source.check(data)
        dataclasses.replace(
            self.source, model=self.model, training=self.training, device=self.device
        ).build_model(data)

    def finished(self, past: Sequence[Record]) -> bool:
        """Return whether every budget has its round."""
        return len(past) == len(self.at)

    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]:
        """Train a network for each missing budget.

        Raises:
            DfalError: if the trial has no round at that budget.
        """
        (records,) = sources
        pool, rest = self.source.first_pool(data), list(records)
        for round, budget in enumerate(self.at):
            while rest and pool.annotations < budget:
                record = rest.pop(0)
                pool = pool.learn(record.query, record.answers)
            if pool.annotations != budget:
                raise DfalError(
                    f"the trial {self.source.id} has no round at {budget} annotations: run it first"
                )
            if round >= len(past):
                yield self._train(round, data, pool, rest)

    def _train(self, round: int, data: Dataset, pool: Pool, following: Sequence[Record]) -> Record:
        clock = Clock()
        timed_fit = clock.timed("fit", fit)
        model = timed_fit(
            lambda: build(self.model, data.images.shape, len(data.classes)),
            pool.labelled_data(self.device),
            self.training,
            derive_seed(self.source.seed, pool.round, "transfer"),
        )
        measurements = {
            "annotations": pool.annotations,
            "labelled_data": pool.labelled_data_size,
            "accuracy": evaluate(model, data),
        }
        rng = generator(self.source.seed, pool.round, "noise")
        measurements |= _fooled(model, data, following, rng)
        return Record.without_query(round, measurements, clock.lap())


def _fooled(
    model: nn.Module, data: Dataset, following: Sequence[Record], rng: torch.Generator
) -> dict[str, float]:
    """Return the fractions of twins, and of equally long noise, that change a predicted class."""
    twins: list[Tensor] = []
    twinned: list[Tensor] = []
    for record in following:
        query = record.query
        if query.twins is None or query.twinned is None or sum(map(len, twins)) >= MIN_TWINS:
            continue
        twins.append(query.twins)
        twinned.append(query.twinned)
    if not twins:
        return {}
    perturbed = torch.cat(twins)
    images = data.images.take(torch.cat(twinned))
    noise = torch.randn(images.shape, generator=rng)
    lengths = torch.linalg.vector_norm((perturbed - images).flatten(1), dim=1)
    scale = lengths / torch.linalg.vector_norm(noise.flatten(1), dim=1)
    noisy = images + noise * scale.view(-1, *[1] * (images.ndim - 1))
    clean = predicted(model, images)
    return {
        "twins": len(perturbed),
        "fooled": float((predicted(model, perturbed) != clean).double().mean()),
        "noise": float((predicted(model, noisy) != clean).double().mean()),
    }


stored_kind(Transfer, "Transfer", first_name="dfal.reproduce.transfer.Transfer")
