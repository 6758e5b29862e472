"""Trial: one run of a strategy, whose configuration is its id, and which can be resumed."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfal import strategies
from dfal.arguments import check_strategy
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments import trial_data
from dfal.experiments.first_images import random_images, typical_images
from dfal.experiments.jobs import Job
from dfal.experiments.measuring import NO_IMAGES, Clock, evaluate, predicted, predicted_at
from dfal.experiments.pretraining import body_weights
from dfal.experiments.serialization import from_json, stored_kind
from dfal.experiments.spreading import fit_spread
from dfal.experiments.store import Record
from dfal.experiments.trial_progress import TrialProgress, weights_of
from dfal.experiments.trial_settings import TrialSettings
from dfal.loop import Round, active_learning
from dfal.nn.augmentation_choice import suited_augmentation
from dfal.nn.custom_fit import load_fit
from dfal.nn.evaluation import frozen_eval
from dfal.nn.features import features
from dfal.nn.inference import logits
from dfal.nn.network_input import prepare_images
from dfal.nn.networks import build, is_linear
from dfal.nn.simclr import started_from
from dfal.nn.training import check_device, fit, holdout_size
from dfal.plugins import describe_exception
from dfal.pool import Pool
from dfal.protocols import Strategy
from dfal.query import DECLINED, Query
from dfal.seeding import derive_seed, fork_rng, generator
from dfal.strategies import DFAL
from dfal.strategies.closed_form import in_closed_form
from dfal.strategies.selection import unit
from dfal.strategies.with_coverage import WithCoverage


@dataclass(frozen=True)
class Trial(TrialSettings, Job):
    """One run of a strategy with a seed: all that decides its result on one machine and thread.

    A seed fixes the first labels, and for each round the initialisation, hold-out and candidates,
    for all strategies alike, so that trials of one seed can be compared in pairs.
    """

    strategy: Strategy = DFAL()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strategy(self.strategy)

    @classmethod
    def from_json(cls, text: str, code: Sequence[Any] = ()) -> "Trial":
        """Return the trial of a configuration, as `serialization.from_json` does."""
        return from_json(cls, text, code)

    @property
    def label(self) -> str:
        """Return the strategy and the seed."""
        queries = self.first < self.annotations
        return f"{strategies.name_of(self.strategy) if queries else 'all labels'} seed {self.seed}"

    def data(self) -> Dataset:
        """Return the data set as the trial sees it: with a backbone, its features."""
        return trial_data.load(self.dataset, self.backbone, self.size, self.device)

    def data_to_check(self) -> Dataset:
        """Return data of the same form; with a backbone, noise in place of its features."""
        if not self.backbone and not self.size:
            return self.data()
        return trial_data.stand_in(self.dataset, self.backbone, self.size)

    @property
    def round_costs(self) -> list[float]:
        """Return the images that each round trains on, counted in each epoch."""
        budgets = range(self.first, self.annotations + self.batch, self.batch)
        return [float(min(budget, self.annotations) * self.training.epochs) for budget in budgets]

    def finished(self, past: Sequence[Record]) -> bool:
        """Return whether the last of these rounds is the trial's last."""
        return bool(past) and past[-1].last

    def check(self, data: Dataset) -> None:
        """Check budget, device and network, and that the strategy can select one of two images.

        Raises:
            DfalError: if the trial cannot run on these data.
        """
        model = self.build_model(data)
        if self.first < self.annotations:
            self._check_strategy(model, data)

    def _check_strategy(self, model: nn.Module, data: Dataset) -> None:
        pool = Pool.new(data.images, {0: int(data.labels[0])})
        labels = pool.labels.clone()
        labels[3:] = DECLINED  # few candidates, though a strategy's file has a row for each image
        pool = dataclasses.replace(pool, labels=labels)
        with fork_rng(0):
            # A layer that is initialised with zeros would hide the others.
            for parameter in model.eval().parameters():
                parameter.data += 0.01 * torch.randn_like(parameter)
            try:
                pool.validate(self._select(model, pool, 1, generator(0, 0, "check")), 1)
            except DfalError as error:
                raise DfalError(
                    f"{strategies.name_of(self.strategy)} cannot select images: {error}"
                ) from error
            except Exception as error:  # it may be the user's code, which may raise anything
                raise DfalError(
                    f"the strategy {strategies.name_of(self.strategy)} fails"
                    f" ({describe_exception(error)})"
                ) from error

    def build_model(self, data: Dataset) -> nn.Module:
        """Build a new network, after checking that budget, device and network fit the data.

        Raises:
            DfalError: if they do not.
        """
        pool = len(data.images)
        if self.annotations > pool:
            raise DfalError(
                f"annotations = {self.annotations} is more than the {pool} images of the pool:"
                f" give at most {pool}"
            )
        check_device(self.device)
        with fork_rng(0):  # a network draws its weights from the global generator
            model = self._network(data)
        images = data.images.take(torch.arange(min(2, pool)))
        try:
            with frozen_eval(model), torch.no_grad():
                out = logits(model, prepare_images(model, images))
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
        if self.fit:
            load_fit(self.fit)
        return model

    def run(
        self, data: Dataset, past: Sequence[Record] = (), sources: Sequence[Sequence[Record]] = ()
    ) -> Iterator[Record]:
        """Yield the trial's rounds, from the one after `past` to the last.

        Args:
            data: what `data` returns, on which `past` was made.
            past: the stored rounds, from round 0 on.
            sources: empty, as a trial needs no other.

        Raises:
            DfalError: if the trial cannot run, naming the trial and the round.
        """
        if self.finished(past):
            return
        if self.backbone and len(data.images.shape) == 3:
            raise DfalError(
                f"{self.label} runs on features of {self.backbone}, but it is given images: give it"
                " trial.data()"
            )
        self.build_model(data)
        pool = self.first_pool(data)
        progress = TrialProgress()
        for record in past:
            progress.see(pool)
            progress.remember(record.weights, pool)
            pool = pool.learn(record.query, record.answers)
        clock = Clock()
        rounds = active_learning(
            pool,
            clock.timed("fit", lambda pool, seed: self._fit(data, pool, seed, progress)),
            clock.timed("select", self._select),
            lambda indices: data.labels[indices],
            annotations=self.annotations,
            batch=self.batch,
            seed=self.seed,
        )
        timed_evaluate = clock.timed("measure", evaluate_round)
        for number in itertools.count(pool.round):
            try:
                if (round := next(rounds, None)) is None:
                    return
                evaluated: Record = timed_evaluate(data, round)
            except DfalError as error:
                raise DfalError(f"{self.label}, round {number}: {error}") from error
            if not evaluated.last:
                evaluated = dataclasses.replace(evaluated, weights=progress.weights)
            yield dataclasses.replace(evaluated, costs=clock.lap())

    def _network(self, data: Dataset) -> nn.Module:
        return build(self.model, data.images.shape, len(data.classes))

    def _start(self, data: Dataset) -> Callable[[], nn.Module]:
        """Return what makes a network with the weights that a training from scratch begins with."""
        if self.start_from == "random":
            return lambda: self._network(data)
        return started_from(lambda: self._network(data), self._body_weights(data))

    def _body_weights(self, data: Dataset) -> dict[str, Tensor]:
        return body_weights(
            data,
            self.model,
            lambda: self._network(data),
            derive_seed(self.seed, 0, "simclr"),
            augment=self.training.augment,
            device=self.device,
        )

    def _simclr_rows(self, data: Dataset) -> Callable[[Tensor], Tensor]:
        """Return what gives images rows of features that were learnt without labels."""
        with fork_rng(0):  # the weights after the features play no part
            network = started_from(lambda: self._network(data), self._body_weights(data))()
        return lambda images: unit(features(network, images))

    def first_pool(self, data: Dataset) -> Pool:
        """Return the pool with the seed's first labels, the same for each strategy."""
        rng = generator(self.seed, 0, "first")
        if self.first_by == "random":
            first = random_images(data.images, self.first, rng)
        else:
            rows_of = self._simclr_rows(data) if self.first_by == "simclr" else None
            first = typical_images(data.images, self.first, rng, rows_of)
        return Pool.new(data.images, {int(index): int(data.labels[index]) for index in first})

    def _fit(self, data: Dataset, pool: Pool, seed: int, progress: TrialProgress) -> nn.Module:
        """Train the network of a round, from that of the last one where the settings say so."""
        progress.see(pool)
        if self.training.unlabelled == "spreading":
            with fork_rng(seed):
                model = self._network(data).to(self.device)
            return fit_spread(model, pool, len(data.classes))
        labelled, make = pool.labelled_data(self.device), self._start(data)
        if self.fit:
            return load_fit(self.fit)(make, labelled, seed)
        training = self.training
        if training.augment == "auto":
            augment = progress.augmentation(lambda pool: self._suited_augmentation(data, pool))
            training = dataclasses.replace(training, augment=augment)
        model = fit(
            make,
            labelled,
            training,
            seed,
            unlabelled=pool.images,
            start=progress.start(pool),
        )
        if training.warm_steps:
            progress.remember(weights_of(model), pool)
        return model

    def _suited_augmentation(self, data: Dataset, pool: Pool) -> str:
        return suited_augmentation(
            fit,
            self._start(data),
            pool.labelled_data(self.device),
            self.training,
            derive_seed(self.seed, 0, "augment"),
        )

    def _select(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        """Query by the strategy; in closed form on features, where the network is linear."""
        linear = (self.backbone or self.model == "linear") and is_linear(model)
        strategy = in_closed_form(self.strategy) if linear else self.strategy
        if self.coverage:
            strategy = WithCoverage(strategy, self.coverage)
        return strategy(model, pool, k, rng)


def evaluate_round(data: Dataset, round: Round) -> Record:
    """Return the record of a round: its query and labels, predictions, and test accuracy."""
    query, pool = round.query, round.pool
    twins = NO_IMAGES if query.twins is None else query.twins
    return Record(
        pool.round,
        query,
        answers=data.labels[query.indices],
        seen=predicted_at(round.model, data.images, query.indices),
        twins_seen=predicted(round.model, twins) if len(twins) else NO_IMAGES,
        measurements={
            "annotations": pool.annotations,
            "labelled_data": pool.labelled_data_size,
            "accuracy": evaluate(round.model, data),
        }
        | ({} if query.bound is None else {"bound": query.bound}),
    )


stored_kind(Trial, "Trial")
