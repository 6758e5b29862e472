"""dfal run --resume, or the same command again: it ends as if never stopped."""

import sys
from pathlib import Path

import pytest

from dfal.data import datasets
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from shell import OWN, SMALL, Shell


def test_stopped_and_resumed(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--store", "whole.db").code == 0
    stopped = dfal.stopped_after(3, "run", *SMALL)
    assert stopped.code == 130
    assert (
        "stopped; every finished round is stored: resume with dfal run --resume --store runs/"
        in stopped.err
    )
    again = dfal("run", "--resume", "--processes", "1")
    assert again.code == 0, again.err
    (store,) = Path("runs").glob("*/study.db")
    with Store(store) as resumed, Store("whole.db") as whole:
        assert resumed.contents() == whole.contents()


def test_a_finished_run_is_shown_again_and_not_run_again(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dfal("run", *SMALL, "--store", "s.db").code == 0
    monkeypatch.setattr(Trial, "run", lambda *_: pytest.fail("it ran again"))
    assert dfal("run", *SMALL, "--store", "s.db").code == 0
    assert dfal("run", "--resume", "--store", "s.db").code == 0
    assert "area" in dfal("report", "s.db").out


def test_the_same_command_goes_on_with_its_store(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "whole.db").code == 0
    with Store("whole.db") as whole, Store("s.db", write=True) as store:
        ((trial, text),) = whole.trials().items()
        store.add_run({trial: text}, *whole.environments())
        store.add(trial, whole.records(trial)[0])
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    with Store("whole.db") as whole, Store("s.db") as store:
        assert store.contents() == whole.contents()


def test_unfinished_trials_are_not_mixed_with_others(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    with Store("s.db", write=True) as store:
        trial = Trial(annotations=30)
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
    assert "holds other unfinished trials: resume them with --resume" in dfal.refused(
        "run", *SMALL, "--store", "s.db"
    )


def test_resume_takes_its_settings_from_the_store(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    assert "leave out --batch" in dfal.refused("run", "--resume", "--store", "s.db", "--batch", "3")


def test_a_store_of_another_version_is_read_but_not_gone_on_with(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other text of the same trial gives another id."""
    to_json = Trial.to_json
    with monkeypatch.context() as then:
        then.setattr(Trial, "to_json", lambda self: to_json(self) + " ")
        assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db").code == 0
    assert "area" in dfal("report", "s.db").out
    assert "s.db was made by a dfal with other settings" in dfal.refused(
        "run", "--resume", "--store", "s.db"
    )


def test_resume_runs_foreign_code_only_when_told(dfal: Shell) -> None:
    network = ["--model", "small_networks:plain_network"]
    assert dfal("run", *SMALL, "--strategy", "random", "--store", "s.db", *network).code == 0
    assert "say --model small_networks:plain_network" in dfal.refused(
        "run", "--resume", "--store", "s.db"
    )
    assert dfal("run", "--resume", "--store", "s.db", *network).code == 0


def test_data_that_are_code_are_run_only_when_told(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_data.py").write_text(
        "import torch\ndef digits():\n"
        "    return [(torch.full((1, 28, 28), i / 90), i % 3) for i in range(90)]\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    data = ["--dataset", "own_data:digits"]
    ran = dfal("run", *SMALL, "--strategy", "random", "--store", "s.db", *data)
    assert ran.code == 0, ran.err
    assert "<img" in Path("s.html").read_text()
    monkeypatch.setattr(datasets, "LOADED", set())
    datasets.load.cache_clear()
    sys.modules.pop("own_data")
    assert dfal("report", "s.db").code == 0
    assert "own_data:digits is in no file or folder here" in Path("s.html").read_text()
    sentence = dfal.refused("run", "--resume", "--store", "s.db")
    assert "made with the data set own_data:digits: say --dataset own_data:digits" in sentence
    assert "own_data" not in sys.modules, "reading runs nobody's code"
    assert dfal("run", "--resume", "--store", "s.db", *data).code == 0


def test_a_strategy_of_ones_own_is_compared_reported_and_gone_on_with(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my_strategies.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())
    tiny = [
        "--annotations",
        "20",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--candidates",
        "20",
        "--processes",
        "1",
        "--store",
        "s.db",
    ]
    ran = dfal("run", *tiny, "--strategy", "my_strategies:Mine,my_strategies:plain+twins, Random")
    assert ran.code == 0, ran.err
    sys.modules.pop("my_strategies")
    out = dfal("report", "s.db", "--against", "my_strategies:Mine").out
    assert all(
        name in out for name in ("my_strategies:Mine", "my_strategies:plain+twins", "random")
    )
    assert "my_strategies" not in sys.modules, "reading runs nobody's code"
    sentence = dfal.refused(
        "run", "--resume", "--store", "s.db", "--strategy", "my_strategies:Mine"
    )
    assert (
        "my_strategies:plain is none of dfal's own and a store may name no code: say --strategy"
        in sentence
    )
    assert "leave out --strategy" in dfal.refused(
        "run", "--resume", "--store", "s.db", "--strategy", "random"
    )
    theirs = "my_strategies:Mine,my_strategies:plain"
    assert (
        dfal("run", "--resume", "--store", "s.db", "--strategy", theirs, "--processes", "1").code
        == 0
    )
