"""Trials that start from weights which were learnt without labels."""

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.datasets import Dataset
from dfal.experiments import pretraining
from dfal.experiments.first_images import typical_images
from dfal.experiments.trial import Trial
from dfal.nn import simclr
from dfal.seeding import fork_rng, generator
from dfal.strategies.selection import unit

TRIAL = Trial(
    strategy=dfal.Random(),
    annotations=40,
    first=20,
    seed=1,
    first_by="simclr",
    start_from="simclr",
    training=dfal.Training(epochs=1, steps=2, warm_steps=1, augment="shapes"),
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(simclr, "BATCH", 32)
    monkeypatch.setattr(simclr, "STEPS", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pretraining, "_LAST", [])


def lines(trial: Trial, data: Dataset, past: Any = ()) -> list[Any]:
    return [
        (record.round, record.query.indices.tolist(), record.seen.tolist(), record.measurements)
        for record in trial.run(data, past)
    ]


def test_a_resumed_trial_reads_what_was_learnt(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = list(TRIAL.run(digits))
    (file,) = tmp_path.glob("dfal/starts/simclr-lenet5-*.safetensors")
    whole = lines(TRIAL, digits)
    pretraining._LAST.clear()
    monkeypatch.setattr(simclr, "pretrain", None)
    assert lines(TRIAL, digits, records[:1]) == whole[1:]
    assert lines(TRIAL, digits) == whole
    # A damaged file is not read.
    file.write_bytes(file.read_bytes()[:100])
    pretraining._LAST.clear()
    weights = {"0.bias": torch.ones(6)}
    again = Mock(return_value=weights)
    monkeypatch.setattr(simclr, "pretrain", again)
    TRIAL.first_pool(digits)
    again.assert_called_once()
    assert pretraining._read(file) is not None


def test_trainings_from_scratch_start_from_it(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Tensor]] = []

    def fit(make: Any, *arguments: Any, **named: Any) -> nn.Module:
        with fork_rng(0):
            made.append(make().state_dict())
        trained: nn.Module = dfal.fit(make, *arguments, **named)
        return trained

    monkeypatch.setattr("dfal.experiments.trial.fit", fit)
    for start in ("simclr", "random"):
        next(iter(dataclasses.replace(TRIAL, start_from=start).run(digits)))
    ((_, weights),) = pretraining._LAST
    started, random = made
    assert all(torch.equal(started[name], tensor) for name, tensor in weights.items())
    assert {name for name in started if not torch.equal(started[name], random[name])} == set(
        weights
    )


def test_first_images_are_typical_in_its_features(digits: Dataset) -> None:
    first = TRIAL.first_pool(digits).labelled
    with fork_rng(0):
        network = dfal.lenet5()
    network.load_state_dict(pretraining._LAST[0][1], strict=False)
    expected = typical_images(
        digits.images,
        20,
        generator(1, 0, "first"),
        lambda images: unit(dfal.features(network, images)),
    )
    assert sorted(first.tolist()) == sorted(expected.tolist())
    pixels = dataclasses.replace(TRIAL, first_by="typical").first_pool(digits).labelled
    assert first.tolist() != pixels.tolist()


def test_every_setting_has_weights_of_its_own(digits: Dataset, tmp_path: Path) -> None:
    photographs = dataclasses.replace(TRIAL.training, augment="photographs")
    for trial in (
        TRIAL,
        dataclasses.replace(TRIAL, seed=2),
        dataclasses.replace(TRIAL, training=photographs),
        dataclasses.replace(TRIAL, strategy=dfal.Margin()),
    ):
        trial.first_pool(digits)
    assert len(list(tmp_path.glob("dfal/starts/*.safetensors"))) == 3


@pytest.mark.parametrize("name", ["first_by", "start_from"])
def test_what_has_no_use_for_it_is_refused(name: str) -> None:
    with pytest.raises(dfal.DfalError, match=f"{name} must not be simclr with --backbone"):
        dataclasses.replace(Trial(backbone="lite2"), **{name: "simclr"})  # type: ignore[arg-type]
    with pytest.raises(dfal.DfalError, match=f"{name} must be random"):
        dataclasses.replace(Trial(), **{name: "simclear"})  # type: ignore[arg-type]
    assert name not in Trial().to_json()
