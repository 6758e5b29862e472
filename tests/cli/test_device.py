"""--device: trials are stored by the kind of their device, whatever its number."""

import os
from pathlib import Path

import pytest

from dfal.cli import trials
from dfal.experiments.store import Store
from shell import SMALL, Shell


@pytest.mark.parametrize(
    ("visible", "device", "kind", "left"),
    [
        (None, "cuda:1", "cuda", "1"),
        ("4,5,6", "cuda:1", "cuda", "5"),
        ("4", "cuda:1", "cuda", ""),
        ("4", "cuda", "cuda", "4"),
        (None, "cpu", "cpu", None),
        (None, "cuda:x", "cuda:x", None),
    ],
)
def test_a_number_chooses_which_gpu_is_seen(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, kind: str, left: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert trials.use_device(device) == kind
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == left


def test_a_new_trial_is_stored_without_the_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    configuration = {"dataset": "mnist-5k", "backbone": "", "device": "cuda:1"}
    (trial,) = trials.new_trials(tmp_path / "s.db", ["random"], "all", 1, configuration)
    assert trial.device == "cuda"


def test_a_store_resumes_on_its_kind_of_device(dfal: Shell) -> None:
    store = ["--store", "s.db"]
    assert dfal.stopped_after(1, "run", "--strategy", "random", *SMALL, *store).code == 130
    sentence = "s.db was made on cpu, not on cuda: leave out --device"
    assert sentence in dfal.refused("run", "--resume", *store, "--device", "cuda")
    assert dfal("run", "--resume", "--device", "cpu", *store).code == 0
    with Store(Path("s.db")) as opened:
        assert [opened.records(trial)[-1].last for trial in opened.trials()] == [True]
