"""What a reproduction runs: the paper's protocol, or a coarse one that takes minutes. Every setting
can be overridden."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfal.data import datasets
from dfal.errors import DfalError
from dfal.experiments.trial import Trial
from dfal.nn.training import Training
from dfal.protocols import Strategy
from dfal.reproduce.settings import PRESETS, PresetSettings
from dfal.strategies import CEAL, named, with_candidates

THRESHOLDS = {"mnist": 0.05, "shoe-bag": 0.19, "quick-draw": 0.08}
"""CEAL's δ₀ of the paper, by how the name of a data set begins."""


def paper_settings(name: str, dataset: str) -> Strategy:
    """The strategy of that name as the paper set it for these data."""
    strategy = named(name, imports=True)
    near = next(
        (threshold for begin, threshold in THRESHOLDS.items() if dataset.startswith(begin)), None
    )
    if isinstance(strategy, CEAL) and near is not None:
        return dataclasses.replace(strategy, threshold=near)
    return strategy


@dataclass(frozen=True)
class Preset(PresetSettings):
    """Everything that a table or figure is made from.

    Attributes:
        trial: what all trials have in common: data, network, first labels, n_query, N, training,
            device. Its strategy and its seed mean nothing.
    """

    trial: Trial

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.full_epochs < 1:
            raise DfalError(
                f"seeds = {self.seeds} and full_epochs = {self.full_epochs} must be 1 or more"
            )
        if not self.strategies:
            raise DfalError(
                "no strategy is named: give one or several that `dfal strategies` lists"
            )
        self.rows()

    def changed(self, settings: Mapping[str, Any]) -> "Preset":
        """The preset with these settings, by the names of its own fields, of its trial's and of its
        training's."""
        own, trial, training = (
            {field.name for field in dataclasses.fields(kind)} & settings.keys()
            for kind in (Preset, Trial, Training)
        )
        learning = dataclasses.replace(
            self.trial.training, **{name: settings[name] for name in training}
        )
        common = dataclasses.replace(
            self.trial, training=learning, **{name: settings[name] for name in trial}
        )
        return dataclasses.replace(self, trial=common, **{name: settings[name] for name in own})

    def rows(self) -> dict[str, Strategy]:
        """The strategies by name, each looking at K candidates."""
        return {name: self.row(name) for name in self.strategies}

    def row(self, name: str) -> Strategy:
        """The strategy of that name, looking at K candidates."""
        return with_candidates(paper_settings(name, self.trial.dataset), self.candidates)

    def trials(self, names: Sequence[str] = (), **changes: Any) -> list[Trial]:
        """Every strategy (or these) with every seed, seed by seed, so that a study that is stopped
        can be compared already."""
        rows = [self.row(name) for name in names or self.strategies]
        common = dataclasses.replace(self.trial, **changes)
        return [
            dataclasses.replace(common, strategy=row, seed=seed)
            for seed in range(self.seeds)
            for row in rows
        ]

    def full(self) -> list[Trial]:
        """The network trained on the full training set, once a seed: a trial whose first labels are
        all of them."""
        everything = len(datasets.load(self.trial.dataset).images)
        training = dataclasses.replace(self.trial.training, epochs=self.full_epochs)
        common = dataclasses.replace(
            self.trial, first=everything, annotations=everything, training=training
        )
        random = named("random")
        return [
            dataclasses.replace(common, strategy=random, seed=seed) for seed in range(self.seeds)
        ]


PAPER = Preset(
    Trial(
        dataset="mnist",
        model="lenet5",
        annotations=1000,
        batch=10,
        first=10,
        training=Training(),
    )
)
"""The paper's protocol with all of K, seeds and training written down; docs/deviations.md says what
the paper leaves open and why it is filled so."""

QUICK = Preset(
    Trial(
        dataset="mnist-5k",
        model="lenet5",
        annotations=200,
        batch=20,
        first=20,
        training=Training(epochs=50),
    ),
    seeds=3,
    until=400,
)
"""Needs nothing but mnist-5k and two cores for some minutes."""


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        DfalError: for a name that is not there.
    """
    found: Preset = PRESETS[name]
    return found
