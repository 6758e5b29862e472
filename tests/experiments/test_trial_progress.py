"""Rounds that start from the network of the round before: resumed to the bit, and started anew when
a class is new."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dfal
from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments import runner
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.experiments.trial_progress import TrialProgress, weights_of

WARM = Trial(
    dataset="mnist-5k",
    strategy=dfal.strategies.named("random"),
    annotations=60,
    batch=10,
    first=30,
    seed=2,
    training=dfal.Training(epochs=1, steps=6, warm_steps=2, average=0.9, unlabelled="vat"),
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("mnist-5k")


def lines(records: list[Record]) -> list[tuple[object, ...]]:
    return [
        (record.round, record.query.indices.tolist(), record.seen.tolist(), record.measurements)
        for record in records
    ]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("first", "stopped"), [(30, 1), (30, 3), (10, 1)])
def test_a_resumed_trial_is_the_same_to_the_bit(
    digits: Dataset, tmp_path: Path, first: int, stopped: int
) -> None:
    """Of ten first images some classes are missing, which come later."""
    trial = dataclasses.replace(WARM, first=first)
    whole = list(trial.run(digits))
    with Store(tmp_path / "s.db", write=True) as store:
        for record, _ in zip(trial.run(digits), range(stopped), strict=False):
            store.add_run({trial.id: trial.to_json()}, {})
            store.add(trial.id, record)
    with Store(tmp_path / "s.db", write=True) as store:
        past = store.records(trial.id, weights=True)
        assert len(past) == stopped
        rest = list(trial.run(digits, past=past))
        assert store.records(trial.id)[-1].weights is None, "they are read only where asked for"
    assert lines(past + rest) == lines(whole)
    for one, other in zip(past + rest, whole, strict=True):
        assert one.weights is None or same(dict(one.weights), dict(other.weights or {}))
    assert whole[-1].weights is None, "nothing starts from the last network"
    assert whole[0].weights is not None


def test_the_runner_stores_and_resumes_them(digits: Dataset, tmp_path: Path) -> None:
    with Store(tmp_path / "whole.db", write=True) as store:
        list(runner.run([WARM], store, 1))
        whole = store.contents()
    with Store(tmp_path / "parts.db", write=True) as store:
        next(runner.run([WARM], store, 1))
    with Store(tmp_path / "parts.db", write=True) as store:
        list(runner.run([WARM], store, 1))
        assert store.contents() == whole
    # A trial with more annotations goes on from the same rounds.
    longer = dataclasses.replace(WARM, annotations=70)
    with Store(tmp_path / "parts.db", write=True) as store:
        list(runner.run([longer], store, 1))
        reused = store.records(longer.id, weights=True)
    assert lines(reused) == lines(list(longer.run(digits)))


def test_a_trial_from_scratch_stores_no_weights(digits: Dataset, tmp_path: Path) -> None:
    cold = dataclasses.replace(WARM, training=dataclasses.replace(WARM.training, warm_steps=0))
    with Store(tmp_path / "s.db", write=True) as store:
        list(runner.run([cold], store, 1))
        assert store.contents()["weights"] == []


def test_a_round_starts_from_scratch_when_a_class_is_new() -> None:
    images = torch.rand(6, 1, 4, 4)
    pool = dfal.Pool.new(images, {0: 0, 1: 1})
    last = TrialProgress()
    assert last.start(pool) is None
    last.remember(weights_of(torch.nn.Linear(2, 2)), pool)
    again = dfal.Pool.new(images, {0: 0, 1: 1, 2: 1})
    assert same(dict(last.start(again) or {}), dict(last.weights or {}))
    assert last.start(dfal.Pool.new(images, {0: 0, 1: 1, 2: 2})) is None
    resumed = TrialProgress()
    resumed.remember(last.weights, pool)
    assert resumed.start(again) is last.weights
    assert resumed.start(dfal.Pool.new(images, {0: 0, 3: 3})) is None


def test_warm_rounds_take_the_warm_steps(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def counted(*arguments: object, **named: object) -> object:
        given.append(named["start"] is not None)
        return dfal.fit(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("dfal.experiments.trial.fit", counted)
    labelled = [set(digits.labels[WARM.first_pool(digits).labelled].tolist())]
    for record in WARM.run(digits):
        labelled.append(labelled[-1] | set(record.answers.tolist()))
    expected = [before == after for before, after in itertools.pairwise(labelled[:-1])]
    assert given == [False, *expected]
    assert True in expected


def test_an_augmentation_is_chosen_once_for_the_first_labels_that_are_enough(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def choose(*arguments: Any) -> str:
        asked.append(len(arguments[2].labels))
        return "shapes"

    monkeypatch.setattr("dfal.experiments.trial.suited_augmentation", choose)
    used: list[str] = []

    def noted(*arguments: Any, **named: Any) -> Any:
        used.append(arguments[2].augment)
        return dfal.fit(*arguments, **named)

    monkeypatch.setattr("dfal.experiments.trial.fit", noted)
    training = dfal.Training(epochs=1, augment="auto")
    trial = dataclasses.replace(WARM, first=10, annotations=40, training=training)
    whole = list(trial.run(digits))
    assert (asked, used) == ([20], ["none", "shapes", "shapes", "shapes"])
    rest = list(trial.run(digits, past=whole[:3]))
    assert (asked, used[4:]) == ([20, 20], ["shapes"])
    assert lines(rest) == lines(whole[3:])


def test_typical_first_images_are_of_more_classes_than_random_ones(digits: Dataset) -> None:
    def classes(first_by: str) -> list[int]:
        settings: dict[str, Any] = {"first": 15, "first_by": first_by}
        trials = [dataclasses.replace(WARM, seed=seed, **settings) for seed in range(3)]
        pools = [trial.first_pool(digits) for trial in trials]
        assert all(len(pool.labelled) == 15 for pool in pools)
        return [len(pool.labels[pool.labelled].unique()) for pool in pools]

    assert sum(classes("typical")) > sum(classes("random"))
    with pytest.raises(DfalError, match="first_by must be random or typical"):
        classes("dear")
