"""`benchmarks/gpu.py` on the CPU with tiny sizes: it must run when a GPU can be had."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from dfal.experiments.store import Record  # noqa: E402
from dfal.experiments.trial import Trial  # noqa: E402
from gpu import Report  # noqa: E402
from gpu_trials import seconds_of_a_trial  # noqa: E402

PARTS = {"correctness", "deepfool", "many classes", "training", "vgg8", "study", "study_in_step"}


def start(out: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--dry-run", "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def parts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))["parts"]
    return found


def test_every_part_runs_and_what_a_stopped_run_has_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    stopped = start(out, "--parts", "training,vgg8,deepfool")
    while stopped.poll() is None and not (out.exists() and len(parts(out)) > 1):
        time.sleep(0.01)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    before = parts(out)
    resumed = start(out)
    output, _ = resumed.communicate(timeout=500)
    assert resumed.returncode == 0, output
    after = parts(out)
    assert set(after) == PARTS
    assert all(part["finished"] for part in after.values())
    assert before["training"]["finished"]
    assert not before["vgg8"]["finished"]
    assert after["training"] == before["training"], "a finished part is not run again"
    assert after["correctness"]["tests"]["passed"], after["correctness"]["tests"]
    for network in ("lenet5", "residual"):
        exact = after["correctness"][network]["float64"]
        assert exact["distances_within_0.001"] == 1, "the CPU beside itself"
    assert set(after["deepfool"]) >= {"lenet5", "residual", "resnet18", "vgg8", "vit"}
    for study in ("study", "study_in_step"):
        assert all(rounds == 2 for rounds in after[study]["rounds"].values())
        assert after[study]["estimated_hours"] is not None
    in_step = after["training"]["networks in step, 10 labels"]
    assert in_step["in step, hold-out 0.2"]["stacked"]
    best = after["training"]["networks in step by the recipe best, 10 labels, 2 steps"]
    assert best["in step"]["stacked"]


def test_figures_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    Report(path, {"gpu": "one"}).add("training", {"figure": 1}, finished=True)
    assert Report(path, {"gpu": "one"}).is_finished("training")
    assert not Report(path, {"gpu": "other"}).is_finished("training")


def test_seconds_of_a_trial_are_those_of_all_its_rounds() -> None:
    trial = Trial(annotations=1000, first=10, batch=10)
    labels = [10, 200, 400]
    records = [
        Record.without_query(
            place, {"annotations": float(n)}, {"fit": 0.25 + 0.01 * n, "select": 0.25}
        )
        for place, n in enumerate(labels)
    ]
    whole = sum(0.5 + 0.01 * n for n in range(10, 1001, 10))
    assert seconds_of_a_trial(records, trial) == pytest.approx(whole)
    assert seconds_of_a_trial(records[:1], trial) is None
