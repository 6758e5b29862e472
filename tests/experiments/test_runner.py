"""Trials side by side, one writer, stopped anywhere, and what a result depends on."""

import dataclasses
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import dfal
from dfal.data.datasets import Dataset, load
from dfal.experiments import runner
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial

SMALL = Trial(
    annotations=30, batch=10, training=dfal.Training(epochs=2), strategy=dfal.DFAL(candidates=20)
)
TRIALS = [
    dataclasses.replace(SMALL, seed=seed, strategy=strategy)
    for seed in range(2)
    for strategy in (dfal.DFAL(candidates=20), dfal.Random())
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    """What an uninterrupted run leaves."""
    with Store(tmp_path_factory.mktemp("whole") / "s.db", write=True) as store:
        assert len(list(runner.run(TRIALS, store, 1))) == 12
        return store.contents()


def test_side_by_side_is_the_same_as_one_after_another(tmp_path: Path, whole: object) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        threads = torch.get_num_threads()
        assert len(list(runner.run(TRIALS, store, 2))) == 12
        assert store.contents() == whole
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_stopped_after_any_round_it_goes_on_to_the_same_end(
    tmp_path: Path, whole: object, after: int
) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        rounds = runner.run(TRIALS, store, 1)
        list(itertools.islice(rounds, after))
        del rounds
    with Store(tmp_path / "s.db", write=True) as store:
        assert len(list(runner.run(TRIALS, store, 1))) == 12 - after
        assert store.contents() == whole
        assert list(runner.run(TRIALS, store, 2)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_trial_that_is_given_twice_runs_once(
    tmp_path: Path, whole: object, processes: int
) -> None:
    twice = [trial for trial in TRIALS for _ in range(2)]
    with Store(tmp_path / "s.db", write=True) as store:
        assert len(list(runner.run(twice, store, processes))) == 12
        assert store.contents() == whole


def test_one_thread_whatever_the_caller_uses(tmp_path: Path, whole: object) -> None:
    torch.set_num_threads(2)
    try:
        with Store(tmp_path / "s.db", write=True) as store:
            list(runner.run(TRIALS, store, 1))
            assert store.contents() == whole
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_round_is_on_disk_before_it_is_shown(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store, Store(tmp_path / "s.db") as reader:
        for trial, record in runner.run(TRIALS[:1], store, 1):
            assert reader.records(trial.id)[-1].round == record.round


def test_an_error_in_a_worker_is_the_error_here(tmp_path: Path) -> None:
    slow = [
        dataclasses.replace(SMALL, model=f"{__name__}:diverging", seed=seed) for seed in range(2)
    ]
    with (
        Store(tmp_path / "s.db", write=True) as store,
        pytest.raises(dfal.DfalError, match="NaN or infinite logits"),
    ):
        list(runner.run(slow, store, 2))


class Diverging(torch.nn.Module):
    """Returns NaN as soon as it was trained."""

    def __init__(self, classes: int):
        super().__init__()
        self.linear = torch.nn.Linear(784, classes)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        out: torch.Tensor = self.linear(x.flatten(1))
        return out if not self.steps else out * torch.nan


def diverging(image: tuple[int, ...], classes: int) -> torch.nn.Module:
    return Diverging(classes)


def test_no_process_is_left_when_it_is_broken_off(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        rounds = runner.run(TRIALS, store, 2)
        next(rounds)
        children = _children()
        assert len(children) >= 2
        del rounds
    deadline = time.monotonic() + 10
    while children & _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children & _children()


def _children() -> set[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {int(pid) for pid in found.stdout.split()}


def test_other_data_than_the_store_began_with_are_refused(tmp_path: Path, digits: Dataset) -> None:
    path = tmp_path / "mine.npz"
    images, labels = digits.images.array[::20, 0], digits.labels[::20].numpy()
    np.savez(path, images=images, labels=labels)
    trial = dataclasses.replace(SMALL, dataset=str(path))
    with Store(tmp_path / "s.db", write=True) as store:
        next(runner.run([trial], store, 1))
        np.savez(path, images=255 - images, labels=labels)
        load.cache_clear()
        with pytest.raises(dfal.DfalError, match=r"is not the one that .* began with"):
            next(runner.run([trial], store, 1))
    load.cache_clear()


NETWORK = """
from torch import nn

def network(image, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5), {between}, nn.Linear(5, classes))

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last = nn.Linear(784, classes)
        {initialise}

    def forward(self, x):
        return self.last(x.flatten(1){forward})

def other(image, classes):
    return Net(classes)
"""


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("network", {"between": "nn.Tanh()"}),
        ("other", {"initialise": "nn.init.ones_(self.last.bias)"}),
        ("other", {"forward": " ** 2"}),
    ],
)
def test_another_network_of_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, edit: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file, plain = (
        tmp_path / "edited.py",
        {
            "between": "nn.ReLU()",
            "initialise": "pass",
            "forward": "",
        },
    )
    trial = dataclasses.replace(SMALL, model=f"edited:{name}")

    def first_round(**changes: str) -> None:
        file.write_text(NETWORK.format(**plain | changes))
        sys.modules.pop("edited", None)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        with Store(tmp_path / "s.db", write=True) as store:
            next(runner.run([trial], store, 1))

    first_round()
    with Store(tmp_path / "s.db") as store:
        before = store.environments()
    code = (
        f"import sys, json; sys.path.insert(0, {str(tmp_path)!r}); from"
        " dfal.experiments.provenance import"
        " environment as e\n"
    )
    code += (
        "from dfal.experiments.trial import Trial;"
        f" print(json.dumps(e([Trial(model={trial.model!r})])['networks']))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(elsewhere.stdout) == before[0]["networks"], (
        "another process comes to the same"
    )
    with pytest.raises(
        dfal.DfalError, match=rf"the network edited:{name} is not the one that .* began with"
    ):
        first_round(**edit)
    with Store(tmp_path / "s.db") as store:
        assert store.environments() == before, "nothing was written"
    first_round()


STRATEGY = """
from dataclasses import dataclass
from dfal import Query

class Base:
    sign = {sign}

@dataclass(frozen=True)
class Brightest(Base):
    {says}
    candidates: int | None = None

    def __call__(self, model, pool, k, rng):
        return last(pool.unlabelled, k)

def last(unlabelled, k):
    return Query(indices=unlabelled[-k:], scores=unlabelled[-k:].double())

def function(model, pool, k, rng):
    {says}
    return last(pool.unlabelled{begin}, k)
"""


@pytest.mark.parametrize(
    ("name", "edit", "refused"),
    [
        ("Brightest", {"says": '"""Other words."""  # and more'}, False),
        ("Brightest", {"says": "limit: int = 3"}, True),
        ("Brightest", {"sign": "-1"}, True),
        ("Brightest", {"begin": "[5:]"}, False),
        ("function", {"begin": "[5:]"}, True),
        ("function", {"says": '"""Other words."""'}, False),
    ],
)
def test_another_strategy_of_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, edit: dict[str, str], refused: bool
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    plain = {"sign": "1", "says": '"""Words."""', "begin": ""}

    def first_round(**changes: str) -> None:
        (tmp_path / "edited.py").write_text(STRATEGY.format(**plain | changes))
        sys.modules.pop("edited", None)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        inside = dfal.strategies.named(f"edited:{name}", imports=True)
        with Store(tmp_path / "s.db", write=True) as store:
            next(
                runner.run([dataclasses.replace(SMALL, strategy=dfal.WithTwins(inside))], store, 1),
                None,
            )

    first_round()
    if refused:
        with pytest.raises(
            dfal.DfalError, match=rf"the strategy edited:{name} is not the one that .* began with"
        ):
            first_round(**edit)
    else:
        first_round(**edit)
    first_round()


def test_a_check_is_made_once_for_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Trial] = []
    monkeypatch.setattr(Trial, "check", lambda self, data: checked.append(self))
    runner.check(TRIALS)
    assert sorted(type(trial.strategy).__name__ for trial in checked) == ["DFAL", "Random"]


def test_a_store_that_does_not_know_its_networks_goes_on(tmp_path: Path) -> None:
    trial = dataclasses.replace(SMALL, model="small_networks:plain_network")
    with Store(tmp_path / "s.db", write=True) as store:
        store.add_run({}, {"data": {}})
        next(runner.run([trial], store, 1))


def test_the_environment_is_written_down(tmp_path: Path, digits: Dataset) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        next(runner.run(TRIALS[:1], store, 1))
        (environment,) = store.environments()
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["threads"] == 1
    assert environment["data"] == {"mnist-5k": digits.fingerprint}
    assert environment["machine"]
    assert environment["at"].endswith("+00:00")


COMMAND = [
    *(
        sys.executable,
        "-m",
        "dfal",
        "run",
        "--annotations",
        "40",
        "--seeds",
        "2",
        "--strategy",
        "dfal,random",
    ),
    *("--epochs", "2", "--candidates", "20"),
]


def killed_and_resumed(store: Path, moment: float, processes: int) -> None:
    """Start, kill -9 the whole process group after `moment` seconds, go on to the end."""
    where = ["--store", str(store), "--processes", str(processes)]
    started = subprocess.Popen(
        [*COMMAND, *where],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        started.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    begun = False
    if store.exists():
        with Store(store) as opened:
            begun = bool(opened.trials())
    again = (
        [sys.executable, "-m", "dfal", "run", "--resume", *where] if begun else [*COMMAND, *where]
    )
    subprocess.run(again, check=True, capture_output=True)


def kills(tmp_path: Path, count: int, processes: int) -> None:
    start = time.monotonic()
    whole_run = [*COMMAND, "--store", str(tmp_path / "whole.db"), "--processes", str(processes)]
    subprocess.run(whole_run, check=True, capture_output=True)
    length = time.monotonic() - start
    with Store(tmp_path / "whole.db") as store:
        whole = store.contents()
    assert len(whole["questions"]) == 2 * 2 * 30
    rng = random.Random(0)
    for kill in range(count):
        moment = length * (0.3 + 0.7 * rng.random()) if kill % 5 else length * rng.random()
        killed_and_resumed(tmp_path / f"{kill}.db", moment, processes)
        with Store(tmp_path / f"{kill}.db") as store:
            assert store.contents() == whole, f"kill {kill} after {moment:.2f} s"


def test_two_kills(tmp_path: Path) -> None:
    kills(tmp_path, 2, processes=1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_fifty_kills(tmp_path: Path, processes: int) -> None:
    kills(tmp_path, 25, processes)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this machine counts no page faults as Linux does"
)
def test_workers_keep_the_memory_of_tensors_that_are_gone() -> None:
    count = (
        "import resource, torch; from dfal.experiments.executors.base import keep_memory\n"
        "def faults():\n"
        "    for _ in range(3): torch.ones(2**21)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): torch.ones(2**21)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "before = faults(); keep_memory(); print(before, faults())"
    )
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    if before < 20:
        pytest.skip("this machine counts no page faults, or keeps the memory by itself")
    assert after < before / 10


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this machine has no /proc")
def test_workers_end_with_their_parent_in_the_middle_of_a_training(tmp_path: Path) -> None:
    settings = (
        "--strategy random --first 3000 --annotations 3000 --epochs 100000 --seeds 2 --processes 2"
        " --store s.db"
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "dfal", "run", *settings.split()],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )

    def workers() -> list[Path]:
        children = (
            Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text(encoding="ascii").split()
        )
        found = [Path("/proc") / child for child in children]
        return [child for child in found if b"spawn_main" in (child / "cmdline").read_bytes()]

    def seconds(process: Path) -> float:
        return int(
            (process / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[11]
        ) / os.sysconf("SC_CLK_TCK")

    deadline = time.monotonic() + 120
    while len(workers()) < 2 or min(map(seconds, workers())) < 8:  # they are training
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.2)
    left = workers()
    run.kill()
    run.wait()
    while any(process.exists() for process in left):
        assert time.monotonic() < deadline, "they work for nobody"
        time.sleep(0.2)


def test_a_script_without_a_guard_is_told_what_it_needs(tmp_path: Path) -> None:
    """Each worker imports the script, and a script that runs trials at once fails there."""
    script = tmp_path / "study.py"
    script.write_text(
        "from dfal.experiments.runner import run\n"
        "from dfal.experiments.store import Store\n"
        "from dfal.experiments.trial import Trial\n"
        "with Store('study.db', write=True) as store:\n"
        "    trials = [Trial('mnist-5k', seed=seed) for seed in (0, 1)]\n"
        "    list(run(trials, store, 2))\n",
        encoding="utf-8",
    )
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert last == (
        "dfal.errors.DfalError: a worker process ended with the error above: where it is about"
        ' starting processes, a script needs `if __name__ == "__main__":` around what it runs,'
        " since each worker imports it"
    )
