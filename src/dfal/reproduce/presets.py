"""The settings of a reproduction: the paper's protocol, or a coarser one that takes minutes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfal.data import datasets
from dfal.errors import DfalError, SettingError
from dfal.experiments.trial import Trial
from dfal.nn.training import Training
from dfal.protocols import Strategy
from dfal.reproduce.settings import PRESETS, PresetSettings
from dfal.strategies import CEAL, named, with_candidates

THRESHOLDS = {"mnist": 0.05, "shoe-bag": 0.19, "quick-draw": 0.08}
"""The paper's δ₀ of CEAL, by the beginning of a data set's name."""


def paper_settings(name: str, dataset: str) -> Strategy:
    """Return the strategy of a name with the paper's settings for a data set."""
    strategy = named(name, imports=True)
    published = next(
        (threshold for begin, threshold in THRESHOLDS.items() if dataset.startswith(begin)), None
    )
    if isinstance(strategy, CEAL) and published is not None:
        return dataclasses.replace(strategy, threshold=published)
    return strategy


@dataclass(frozen=True)
class Preset(PresetSettings):
    """All settings of a table or figure.

    Attributes:
        trial: what all trials have in common: data, network, first labels, n_query, N, training,
            device. Its strategy and its seed mean nothing.
    """

    trial: Trial

    def __post_init__(self) -> None:
        for name in ("seeds", "full_epochs"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"must be 1 or more (got {getattr(self, name)})")
        if not self.strategies:
            raise DfalError(
                "no strategy is named: give one or several that `dfal strategies` lists"
            )
        self.rows()

    def changed(self, settings: Mapping[str, Any]) -> "Preset":
        """Return the preset with other values of its fields, its trial's or its training's."""
        preset_names, trial_names, training_names = (
            {field.name for field in dataclasses.fields(kind)} & settings.keys()
            for kind in (Preset, Trial, Training)
        )
        training = dataclasses.replace(
            self.trial.training, **{name: settings[name] for name in training_names}
        )
        trial = dataclasses.replace(
            self.trial, training=training, **{name: settings[name] for name in trial_names}
        )
        return dataclasses.replace(
            self, trial=trial, **{name: settings[name] for name in preset_names}
        )

    def rows(self) -> dict[str, Strategy]:
        """Return the strategies by name, each with K candidates."""
        return {name: self.row(name) for name in self.strategies}

    def row(self, name: str) -> Strategy:
        """Return the strategy of that name with K candidates."""
        return with_candidates(paper_settings(name, self.trial.dataset), self.candidates)

    def trials(self, names: Sequence[str] = (), **changes: Any) -> list[Trial]:
        """Return the trials of each strategy and seed, seed by seed.

        So the finished seeds of an interrupted study can be compared.

        Args:
            names: of the strategies; by default all of the preset.
            changes: other values of fields of the trials.
        """
        rows = [self.row(name) for name in names or self.strategies]
        common = dataclasses.replace(self.trial, **changes)
        return [
            dataclasses.replace(common, strategy=row, seed=seed)
            for seed in range(self.seeds)
            for row in rows
        ]

    def full(self) -> list[Trial]:
        """Return a trial of the full training set for each seed, whose first labels are all."""
        size = len(datasets.load(self.trial.dataset).images)
        training = dataclasses.replace(self.trial.training, epochs=self.full_epochs)
        common = dataclasses.replace(self.trial, first=size, annotations=size, training=training)
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
the paper leaves open, and what is done here."""

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
"""A coarser protocol for mnist-5k, which takes two cores some minutes."""


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        DfalError: for a name that is not there.
    """
    named_preset: Preset = PRESETS[name]
    return named_preset
