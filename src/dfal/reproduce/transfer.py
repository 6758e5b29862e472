"""Images that were chosen, and twins that were made, for one network train another."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.data.datasets import Dataset
from dfal.data.image_array import CHUNK
from dfal.errors import DfalError
from dfal.experiments.serialization import id_of, stored_kind, to_json
from dfal.experiments.store import Record
from dfal.experiments.trial import Clock, Trial
from dfal.nn.inference import predict
from dfal.nn.networks import build
from dfal.nn.training import Training, fit
from dfal.pool import Pool
from dfal.query import Query
from dfal.seeding import derive_seed, generator
from dfal.strategies import name_of

TWINS = 100
"""Twins that are shown to the other network, where so many follow."""


@dataclass(frozen=True)
class Transfer:
    """Networks trained on what a stored trial had bought at some budgets.

    A round is a budget. Where the trial goes on to make twins, the next 100 of them are shown to
    the network, which has trained neither on them nor on their images: `fooled` is how many it
    gives another class than their image, `noise` how many images it gives another class when moved
    as far in a random direction. For the network that each twin was made for, `fooled` is 1 by
    construction.

    Attributes:
        source: the trial that chose.
        model: the network that is trained; with the source's own, it is another initialisation of
        it.
        at: the budgets, ascending, each of which the trial has measured.
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
    def id(self) -> str:
        """Of the configuration."""
        return id_of(self.to_json())

    def to_json(self) -> str:
        """The whole configuration as text."""
        return to_json(self)

    @property
    def dataset(self) -> str:
        """The trial's."""
        return self.source.dataset

    @property
    def sources(self) -> tuple[Trial, ...]:
        """The trial that chose."""
        return (self.source,)

    @property
    def label(self) -> str:
        """What tells it from others."""
        return (
            f"{name_of(self.source.strategy)} for {self.source.model} seed {self.source.seed}:"
            f" {self.model}"
        )

    @property
    def efforts(self) -> list[float]:
        """The training of each round, in images looked at."""
        return [float(budget * self.training.epochs) for budget in self.at]

    def check(self, data: Dataset) -> None:
        """Raise unless the trial can run on these data, and the network as well."""
        self.source.check(data)
        dataclasses.replace(
            self.source, model=self.model, training=self.training, device=self.device
        ).fits(data)

    def finished(self, past: Sequence[Record]) -> bool:
        """Whether every budget is there."""
        return len(past) == len(self.at)

    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]:
        """A network for each budget that is missing.

        Raises:
            DfalError: where the trial has not come so far, or did not stop at that budget.
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
        learn = clock.timed("fit", fit)
        model = learn(
            lambda: build(self.model, data.images.shape, len(data.classes)),
            pool.labelled_data(self.device),
            self.training,
            derive_seed(self.source.seed, pool.round, "transfer"),
        )
        rows = torch.arange(len(data.test_images)).split(CHUNK)
        right = sum(
            int((_classes(model, data.test_images.take(part)) == data.test_labels[part]).sum())
            for part in rows
        )
        measured = {
            "annotations": pool.annotations,
            "labelled_data": pool.labelled_data_size,
            "accuracy": right / len(data.test_images),
        }
        none = torch.empty(0, dtype=torch.int64)
        rng = generator(self.source.seed, pool.round, "noise")
        return Record(
            round,
            Query.nothing(),
            none,
            none,
            none,
            measured | _fooled(model, data, following, rng),
            clock.lap(),
        )


def _fooled(
    model: nn.Module, data: Dataset, following: Sequence[Record], rng: torch.Generator
) -> dict[str, float]:
    twins: list[Tensor] = []
    twinned: list[Tensor] = []
    for record in following:
        if (
            record.query.twins is not None
            and record.query.twinned is not None
            and sum(len(one) for one in twins) < TWINS
        ):
            twins.append(record.query.twins)
            twinned.append(record.query.twinned)
    if not twins:
        return {}
    moved = torch.cat(twins)
    images = data.images.take(torch.cat(twinned))
    noise = torch.randn(images.shape, generator=rng)
    norms = torch.linalg.vector_norm((moved - images).flatten(1), dim=1) / torch.linalg.vector_norm(
        noise.flatten(1), dim=1
    )
    shaken = images + noise * norms.view(-1, *[1] * (images.ndim - 1))
    seen = _classes(model, images)
    return {
        "twins": len(moved),
        "fooled": float((_classes(model, moved) != seen).double().mean()),
        "noise": float((_classes(model, shaken) != seen).double().mean()),
    }


def _classes(model: nn.Module, images: Float[Tensor, "n *image"]) -> Int64[Tensor, "n"]:
    return predict(model, images).argmax(1).cpu()


stored_kind(Transfer, "Transfer", first_name="dfal.reproduce.transfer.Transfer")
