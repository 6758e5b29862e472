"""Trial: a frozen value that is the whole configuration. Its hash is its id; it runs, and goes on
where it was stopped."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from dfal import strategies
from dfal.arguments import check_strategy
from dfal.data.datasets import Dataset
from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError
from dfal.experiments.serialization import from_json, id_of, stored_kind, to_json
from dfal.experiments.store import Record
from dfal.experiments.trial_settings import TrialSettings
from dfal.loop import Round, active_learning
from dfal.nn.inference import frozen_eval, logits, predict, prepare_images
from dfal.nn.networks import build
from dfal.nn.training import check_device, fit, holdout_size
from dfal.plugins import describe_exception
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.query import DECLINED
from dfal.seeding import fork_rng, generator
from dfal.strategies import DFAL


@dataclass(frozen=True)
class Trial(TrialSettings):
    """One run of one strategy with one seed: everything that decides its result, on one machine
    with one thread.

    A seed fixes the first labels, and for each round the initialisation, hold-out and candidates,
    for all strategies alike, so that trials of one seed can be compared in pairs.
    """

    strategy: Strategy = DFAL()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strategy(self.strategy)

    @property
    def id(self) -> str:
        """SHA-256 of the configuration, shortened."""
        return id_of(self.to_json())

    def to_json(self) -> str:
        """The whole configuration as text, from which `from_json` makes an equal trial."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str, code: Sequence[Any] = ()) -> "Trial":
        """The trial with that configuration, as the function `from_json` makes it."""
        return from_json(cls, text, code)

    @property
    def sources(self) -> tuple["Trial", ...]:
        """Trials whose rounds this one needs: none."""
        return ()

    @property
    def label(self) -> str:
        """What tells it from the other trials of a study."""
        asks = self.first < self.annotations
        return f"{strategies.name_of(self.strategy) if asks else 'all labels'} seed {self.seed}"

    @property
    def efforts(self) -> list[float]:
        """The training of each round, in images looked at: what the time left is reckoned by."""
        budgets = range(self.first, self.annotations + self.batch, self.batch)
        return [float(min(budget, self.annotations) * self.training.epochs) for budget in budgets]

    def finished(self, past: Sequence[Record]) -> bool:
        """Whether these rounds are all of it."""
        return bool(past) and past[-1].last

    def check(self, data: Dataset) -> None:
        """Raise unless the trial can run on these data: budget, device, what the network returns,
        and whether the strategy can choose between two images with it."""
        model = self.fits(data)
        if self.first == self.annotations:
            return
        pool = Pool.new(data.images, {0: int(data.labels[0])})
        labels = pool.labels.clone()
        labels[3:] = DECLINED  # few to look at, while a file with a row for each image still fits
        pool = dataclasses.replace(pool, labels=labels)
        with fork_rng(0):
            for (
                parameter
            ) in model.eval().parameters():  # a layer that begins with zeros would hide the others
                parameter.data += 0.01 * torch.randn_like(parameter)
            try:
                pool.validate(self.strategy(model, pool, 1, generator(0, 0, "check")), 1)
            except DfalError as error:
                raise DfalError(
                    f"{strategies.name_of(self.strategy)} cannot choose images: {error}"
                ) from error
            except Exception as error:  # it may be the user's code, which may raise anything
                raise DfalError(
                    f"the strategy {strategies.name_of(self.strategy)} fails"
                    f" ({describe_exception(error)})"
                ) from error

    def fits(self, data: Dataset) -> nn.Module:
        """A new network that fits these data; raises unless budget, device and network do."""
        pool = len(data.images)
        if self.annotations > pool:
            raise DfalError(
                f"annotations = {self.annotations} is more than the {pool} images of the pool: ask"
                f" for at most {pool}"
            )
        check_device(self.device)
        with fork_rng(
            0
        ):  # a network draws its weights from the global generator, which is not ours to move
            model = self._network(data)
        try:
            with frozen_eval(model), torch.no_grad():
                out = logits(
                    model, prepare_images(model, data.images.take(torch.arange(min(2, pool))))
                )
        except DfalError:
            raise
        except Exception as error:  # it may be the user's code, which may raise anything
            raise DfalError(
                f"the network {self.model} cannot take images of shape {data.images.shape}"
                f" ({describe_exception(error)})"
            ) from error
        if out.shape[1] != len(data.classes):
            raise DfalError(
                f"the network {self.model} returns {out.shape[1]} logits an image, but"
                f" {self.dataset} has {len(data.classes)} classes: give it one logit for each"
            )
        holdout_size(self.training.holdout, self.first)
        return model

    def run(
        self, data: Dataset, past: Sequence[Record] = (), sources: Sequence[Sequence[Record]] = ()
    ) -> Iterator[Record]:
        """The trial's rounds, from the one after `past` to the last.

        Args:
            data: must not be another than that on which `past` was made.
            past: the rounds that are stored already, from round 0 on.
            sources: the rounds of each of `self.sources`.
        """
        if self.finished(past):
            return
        self.fits(data)
        pool = self.first_pool(data)
        for record in past:
            pool = pool.learn(record.query, record.answers)
        clock = Clock()
        rounds = active_learning(
            pool,
            clock.timed("fit", lambda pool, seed: self._fit(data, pool, seed)),
            clock.timed("select", self.strategy),
            lambda indices: data.labels[indices],
            annotations=self.annotations,
            batch=self.batch,
            seed=self.seed,
        )
        look = clock.timed("measure", lambda now: self._look(data, now))
        for round in itertools.count(pool.round):
            try:
                if (now := next(rounds, None)) is None:
                    return
                seen: Record = look(now)
            except DfalError as error:
                raise DfalError(f"{self.label}, round {round}: {error}") from error
            yield dataclasses.replace(seen, costs=clock.lap())

    def _network(self, data: Dataset) -> nn.Module:
        return build(self.model, data.images.shape, len(data.classes))

    def first_pool(self, data: Dataset) -> Pool:
        """The pool with the first labels that this seed draws, the same for every strategy and
        network."""
        order = torch.randperm(len(data.images), generator=generator(self.seed, 0, "first"))
        return Pool.new(
            data.images, {int(index): int(data.labels[index]) for index in order[: self.first]}
        )

    def _fit(self, data: Dataset, pool: Pool, seed: int) -> nn.Module:
        return fit(
            lambda: self._network(data), pool.labelled_data(self.device), self.training, seed
        )

    def _look(self, data: Dataset, now: Round) -> Record:
        """A round as it is stored: what was asked and answered, what the network saw, how good it
        is."""
        query = now.query
        twins_seen = (
            predict(now.model, query.twins).argmax(1).cpu()
            if query.twins is not None and len(query.twins)
            else _NONE
        )
        right = (
            _classes(now.model, data.test_images, torch.arange(len(data.test_images)))
            == data.test_labels
        )
        return Record(
            now.pool.round,
            query,
            answers=data.labels[query.indices],
            seen=_classes(now.model, data.images, query.indices),
            twins_seen=twins_seen,
            measurements={
                "annotations": now.pool.annotations,
                "labelled_data": now.pool.labelled_data_size,
                "accuracy": int(right.sum()) / len(right),
            }
            | ({} if query.bound is None else {"bound": query.bound}),
        )


_NONE = torch.empty(0, dtype=torch.int64)


def _classes(model: nn.Module, images: Images, rows: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """The classes that the network sees in these images, read some thousand at a time."""
    parts = [
        predict(model, images.take(part)).argmax(1).cpu() for part in rows.split(CHUNK) if len(part)
    ]
    return torch.cat(parts) if parts else _NONE


class Clock:
    """Seconds spent in each of the functions it wraps, since the last lap."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose seconds count under that name."""

        def wrapped(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self._spent[name] = self._spent.get(name, 0) + time.perf_counter() - start

        return wrapped

    def lap(self) -> dict[str, float]:
        """The seconds by name; counting begins anew."""
        spent, self._spent = self._spent, {}
        return spent


stored_kind(Trial, "Trial")
