"""Trials whose networks are trained in step by one process."""

import dataclasses
import os
import signal
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path

import pytest

import dfal
from dfal.experiments import executors, runner
from dfal.experiments.executors.together import InStep
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


def test_a_trial_does_not_depend_on_those_beside_it(tmp_path: Path) -> None:
    with Store(tmp_path / "beside.db", write=True) as store:
        beside = rounds(runner.run(TRIALS, store, 2, "together:networks=3"))
    for trial in TRIALS:
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
