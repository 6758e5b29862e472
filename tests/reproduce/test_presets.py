"""Presets: the paper's protocol, its stored ids, and changed settings."""

import dataclasses

import pytest

import dfal
from dfal import reproduce
from dfal.data.datasets import Dataset
from dfal.experiments.trial import Trial
from dfal.reproduce import presets
from dfal.reproduce.stored_results import name_in
from paper_store import small


def test_the_papers_preset_is_its_protocol() -> None:
    preset = reproduce.preset("paper")
    trials = preset.trials()
    assert len(trials) == 40
    assert [trial.seed for trial in trials] == [seed for seed in range(5) for _ in range(8)], (
        "seed by seed"
    )
    for trial in trials:
        assert (trial.dataset, trial.model, trial.first, trial.batch, trial.annotations) == (
            "mnist",
            "lenet5",
            10,
            10,
            1000,
        )
        assert trial.training == dfal.Training(), "the default: docs/deviations.md says why"
        assert getattr(trial.strategy, "candidates", 300) == 300, "the same K for all"
    assert trials[0].strategy == dfal.DFAL(candidates=300)
    assert isinstance(trials[2].strategy, dfal.CEAL)
    assert trials[2].strategy.threshold == 0.05


def test_the_ids_of_the_papers_trials_never_change() -> None:
    """A study of days must still be found tomorrow."""
    trials = reproduce.preset("paper").trials()
    assert [trial.id for trial in trials[:8]] == IDS


IDS = [
    Trial(dataset="mnist", annotations=1000, strategy=strategy).id
    for strategy in (
        dfal.DFAL(candidates=300),
        dfal.BALD(candidates=300),
        dfal.CEAL(candidates=300),
        dfal.CoreSet(candidates=300),
        dfal.EGL(candidates=300),
        dfal.Entropy(candidates=300),
        dfal.Random(),
        dfal.DFAL(candidates=300, twins=False),
    )
]


def test_ceals_threshold_is_the_papers_for_each_data_set() -> None:
    for dataset, threshold in (
        ("mnist-5k", 0.05),
        ("shoe-bag-sample", 0.19),
        ("quick-draw", 0.08),
        ("mine.npz", 0.05),
    ):
        strategy = presets.paper_settings("ceal", dataset)
        assert isinstance(strategy, dfal.CEAL)
        assert strategy.threshold == threshold
        assert (
            name_in(Trial(dataset=dataset), dataclasses.replace(strategy, candidates=7)) == "ceal"
        )
    assert name_in(Trial(dataset="shoe-bag"), dfal.CEAL()) == "ceal", (
        "as far as it has no other name"
    )
    assert name_in(Trial(), dfal.CEAL(threshold=0.3)).startswith("CEAL(")


def test_every_setting_can_be_changed_and_reaches_the_trials() -> None:
    preset = small(strategies=("margin", "random"), learning_rate=0.01, candidates=7)
    assert preset.rows() == {"margin": dfal.Margin(candidates=7), "random": dfal.Random()}
    assert {trial.training.learning_rate for trial in preset.trials()} == {0.01}
    assert {trial.annotations for trial in preset.trials()} == {60}
    for bad, sentence in (
        ({"seeds": 0}, r"seeds must be 1 or more \(got 0\)"),
        ({"strategies": ()}, "no strategy"),
        ({"strategies": ("egl2",)}, "egl"),
    ):
        with pytest.raises(dfal.DfalError, match=sentence):
            small(**bad)
    with pytest.raises(dfal.DfalError, match=r"there is no preset 'papre'.*did you mean 'paper'"):
        reproduce.preset("papre")


def test_the_full_training_set_is_a_trial_that_asks_about_nothing(digits: Dataset) -> None:
    full = small().full()
    assert [trial.seed for trial in full] == [0, 1]
    (record,) = full[0].run(digits)
    assert record.measurements["annotations"] == len(digits.images)
    assert record.last
