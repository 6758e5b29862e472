"""Trials whose networks are trained in step by one process."""

import dataclasses
import os
import signal
import threading
from contextlib import closing
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

import dfal
from dfal.experiments import executors, runner
from dfal.experiments.executors import together
from dfal.experiments.executors.together import InStep, _train
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.nn.together import InThisProcess, training_together

STRATEGIES = (dfal.Margin(), dfal.Random())
TRIALS = [
    Trial(
        annotations=20,
        batch=5,
        training=dfal.Training(epochs=2, holdout=0.2, restarts=2),
        strategy=strategy,
    )
    for strategy in STRATEGIES
]


OF_ALL_IMAGES = [
    dataclasses.replace(
        trial,
        training=dfal.Training(
            epochs=1,
            steps=4,
            warm_steps=2,
            unlabelled="consistency",
            unlabelled_batch=8,
            augment="auto",
        ),
    )
    for trial in TRIALS
]


@pytest.mark.parametrize("trials", [TRIALS, OF_ALL_IMAGES], ids=["labels alone", "all images"])
def test_a_trial_does_not_depend_on_those_beside_it(trials: list[Trial], tmp_path: Path) -> None:
    with Store(tmp_path / "beside.db", write=True) as store:
        beside = rounds(runner.run(trials, store, 2, "together:networks=3"))
    for trial in trials:
        with (
            Store(tmp_path / f"{trial.id}.db", write=True) as store,
            training_together(InThisProcess(3)),
        ):
            alone = rounds(runner.run([trial], store, 1))[trial.id]
        assert len(alone) == 3
        for got, want in zip(beside[trial.id], alone, strict=True):
            assert got.query.indices.tolist() == want.query.indices.tolist()
            assert got.measurements == pytest.approx(want.measurements, abs=0.002)


def rounds(run: object) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for trial, record in run:  # type: ignore[attr-defined]
        found.setdefault(trial.id, []).append(record)
    return found


def test_a_process_that_dies_ends_the_run_with_one_sentence(tmp_path: Path) -> None:
    """What is stored is kept, and closing leaves no process behind."""
    long = [dataclasses.replace(trial, annotations=1000) for trial in TRIALS]
    before = set(active_children())
    with Store(tmp_path / "s.db", write=True) as store:
        with closing(runner.run(long, store, 1, InStep())) as run:
            next(run)
            started = [child for child in active_children() if child not in before]
            assert len(started) == 2, "a worker, and the process that trains"
            trainer = min(started, key=lambda child: child.pid or 0)
            os.kill(trainer.pid or 0, signal.SIGKILL)
            with pytest.raises(dfal.DfalError, match=r"trains all networks died.*--resume"):
                for _ in run:
                    pass
        assert store.trials()
    assert set(active_children()) <= before


def test_unlabelled_images_are_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = dfal.Images(torch.rand(1000, 1, 28, 28))
    settings = dfal.Training(epochs=1, unlabelled="vat", unlabelled_batch=4, ensemble=2)
    data = dfal.LabelledData(torch.rand(6, 1, 28, 28), torch.arange(6) % 2, torch.arange(6))
    ours, theirs = get_context("spawn").Pipe()
    trainer = threading.Thread(target=_train, args=(theirs, [theirs], 2), daemon=True)
    trainer.start()
    sizes, send = list[int](), Connection.send_bytes

    def counted(pipe: Connection, message: bytes) -> None:
        sizes.append(len(message))
        send(pipe, message)

    def fit_three_times(pipe: Connection, places: dict[str, str]) -> None:
        for seed in range(3):
            dfal.fit(dfal.lenet5, data, settings, seed, unlabelled=images)

    monkeypatch.setattr(Connection, "send_bytes", counted)
    monkeypatch.setattr(together, "work", fit_three_times)
    together._work(ours, {}, ours)
    ours.close()
    trainer.join()
    assert sum(size > images.array.nbytes for size in sizes) == 1
    assert len(sizes) == 8, "three trainings, their answers, and the images with a question"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("networks=0", r"must be a whole number of at least 1 \(got 0\)"),
        ("networks=many", r"must be a whole number of at least 1 \(got many\)"),
        ("slots=3", "together has no setting slots: it takes networks="),
        ("networks=2,a=1", "together has no setting a: it takes networks="),
    ],
)
def test_wrong_settings_are_refused(settings: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        executors.named(f"together:{settings}")


def test_a_name_without_settings_takes_as_many_networks_as_trials() -> None:
    assert executors.named("together") == InStep(0)
    assert executors.named("together:networks=64") == InStep(64)
