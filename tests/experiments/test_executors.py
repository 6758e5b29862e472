"""Trials that run elsewhere leave what local ones leave, whatever is lost on the way."""

import contextlib
import dataclasses
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dfal
from dfal.data import datasets
from dfal.experiments import executors, runner
from dfal.experiments.executors import base
from dfal.experiments.executors.local import Local
from dfal.experiments.executors.on_ray import Ray
from dfal.experiments.executors.on_slurm import Slurm
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from shell import Shell

SMALL = Trial(
    annotations=20,
    batch=5,
    training=dfal.Training(epochs=1),
    strategy=dfal.DFAL(candidates=20),
    model="linear",
)
WARM = dataclasses.replace(SMALL, training=dfal.Training(steps=3, warm_steps=2), model="lenet5")


@dataclasses.dataclass(frozen=True)
class Killed:
    """Random sampling; in the second round the worker is killed, once for each file `victim`."""

    victim: str
    candidates: int | None = None

    def __call__(
        self, model: torch.nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        if pool.round == 1:
            with contextlib.suppress(FileNotFoundError):
                Path(self.victim).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        query: dfal.Query = dfal.Random()(model, pool, k, rng)
        return query


Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Two trials, the last of which kills its worker if its file is there."""
    killed = Killed(str(tmp_path_factory.mktemp("victim") / "victim"))
    return [WARM, dataclasses.replace(SMALL, seed=1, strategy=killed)]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, trials: list[Trial]) -> Rows:
    """What the trials leave when they run one after the other in this process."""
    rows = contents(tmp_path_factory.mktemp("local") / "s.db", trials, "local", 1)
    assert len(rows["weights"]) == 2 and rows["twins"], "there is enough to compare"
    return rows


@pytest.fixture
def victim(trials: list[Trial]) -> Path:
    """A file that is there until a worker was killed."""
    assert isinstance(trials[-1].strategy, Killed)
    file = Path(trials[-1].strategy.victim)
    file.touch()
    return file


def contents(path: Path, trials: list[Trial], executor: Any, processes: int | None = 2) -> Rows:
    with Store(path, write=True) as store:
        list(runner.run(trials, store, processes, executor))
        return store.contents()


def test_jobs_of_submitit_leave_the_same_even_if_one_is_killed(
    tmp_path: Path,
    trials: list[Trial],
    local: Rows,
    victim: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert contents(tmp_path / "s.db", trials, "slurm:cluster=local") == local
    assert not victim.exists()
    assert "seed 1 lost its worker" in capfd.readouterr().err
    assert not (tmp_path / "s.db.jobs").exists()


def test_workers_of_ray_leave_the_same_even_if_one_is_killed(
    tmp_path: Path,
    trials: list[Trial],
    local: Rows,
    victim: Path,
    capfd: pytest.CaptureFixture[str],
    cluster: Any,
) -> None:
    assert contents(tmp_path / "s.db", trials, "ray", None) == local
    assert not victim.exists()
    assert "seed 1 lost its worker" in capfd.readouterr().err
    assert cluster.is_initialized(), "it was there before"


def test_a_job_that_kills_each_worker_ends_in_one_sentence() -> None:
    losses = base.Losses()
    for _ in range(2):
        losses.lost(SMALL, "no memory")
        losses.progress(SMALL)
    losses.lost(SMALL, "no memory")
    losses.lost(SMALL, "no memory")
    with pytest.raises(dfal.DfalError, match=r"dfal seed 0 lost its worker 3 times .*no memory"):
        losses.lost(SMALL, "no memory")


def test_an_error_in_a_worker_is_the_error_here(capfd: pytest.CaptureFixture[str]) -> None:
    trial = dataclasses.replace(SMALL, strategy=Failing())
    first, second = base.messages(base.pack(unfinished(trial)))
    assert base.read_message(first) is not None
    with pytest.raises(dfal.DfalError, match=r"ZeroDivisionError.*its traceback is above"):
        base.read_message(second)
    assert "in __call__" in capfd.readouterr().err


def unfinished(trial: Trial) -> base.Unfinished:
    return base.Unfinished(trial, [], [], trial.data().fingerprint)


@pytest.fixture
def restored_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@dataclasses.dataclass(frozen=True)
class Failing:
    """Fails in the second round."""

    candidates: int | None = None

    def __call__(
        self, model: torch.nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        if pool.round:
            raise ZeroDivisionError
        query: dfal.Query = dfal.Random()(model, pool, k, rng)
        return query


@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN])
def test_closing_a_run_ends_its_jobs(
    interrupts: Any, tmp_path: Path, restored_signal: None
) -> None:
    """Also where interrupts are ignored, as in jobs that a shell started in the background."""
    signal.signal(signal.SIGINT, interrupts)
    long = dataclasses.replace(SMALL, annotations=3000, batch=1, strategy=dfal.Random())
    with Store(tmp_path / "s.db", write=True) as store:
        rounds = runner.run([long], store, None, Slurm(cluster="local"))
        next(rounds)
        folder = tmp_path / "s.db.jobs"
        (job,) = [int(path.name.split("_")[0]) for path in folder.glob("*/logs/*_submitted.pkl")]
        (worker,) = Path(f"/proc/{job}/task/{job}/children").read_text(encoding="ascii").split()
        rounds.close()
    assert not folder.exists()
    deadline = time.monotonic() + 30
    while _alive(job) or _alive(int(worker)):
        assert time.monotonic() < deadline, "they work for nobody"
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        return b"submitit" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_worker_refuses_other_data_than_the_study_began_with() -> None:
    packed = base.pack(base.Unfinished(SMALL, [], [], "another fingerprint"))
    (message,) = base.messages(packed)
    with pytest.raises(dfal.DfalError, match="mnist-5k of a worker is not the one"):
        base.read_message(message)


def test_a_worker_finds_modules_and_data_where_its_study_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "code")
    place = pickle.loads(pickle.dumps(base.Workplace(places={"old": "/new"})))
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    moved: list[dict[str, str]] = []
    monkeypatch.setattr(datasets, "move", moved.append)
    place.enter()
    assert Path.cwd() == tmp_path and str(tmp_path / "code") in sys.path
    assert sys.path[0] == "/elsewhere" and moved == [{"old": "/new"}]
    dataclasses.replace(place, folder="/not there").enter()


def test_no_device_of_this_machine_is_needed_elsewhere() -> None:
    on_gpu = dataclasses.replace(SMALL, device="cuda")
    if not torch.cuda.is_available():
        with pytest.raises(dfal.DfalError, match="device 'cuda' cannot be used"):
            runner.check([on_gpu])
    runner.check([on_gpu], elsewhere=True)
    runner.prepare([on_gpu], elsewhere=True)
    with pytest.raises(dfal.DfalError, match="must be cpu or cuda"):
        runner.check([dataclasses.replace(SMALL, device="cuda:1")], elsewhere=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("slrm", "there is no executor 'slrm': did you mean 'slurm'?"),
        ("local:4", "the executor local has no setting 4"),
        ("ray:gpus=many", "no setting gpus=many: give cpus or gpus with a number"),
        ("ray://head:10001,memory=3", "no setting memory=3: give cpus or gpus"),
        ("slurm:partition", "'partition', which is no setting: give name=value"),
        ("slurm:cluster=moon", "must be slurm or local"),
    ],
)
def test_a_wrong_name_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError) as caught:
        executors.named(name)
    assert sentence in str(caught.value)


def test_settings_go_to_submitit_by_its_names(tmp_path: Path) -> None:
    with pytest.raises(dfal.DfalError, match=r"submitit cannot use local .*see the settings"):
        contents(tmp_path / "s.db", [SMALL], "slurm:cluster=local,timeout_min=soon")
    with pytest.raises(dfal.DfalError, match="submitit cannot use slurm"):
        contents(tmp_path / "s.db", [SMALL], Slurm({"partition": "gpu"}))
    assert not (tmp_path / "s.db.jobs").exists()


def test_what_cannot_run_here_leaves_no_store(
    dfal: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "needs srun" in dfal.refused("run", "--executor", "slurm")
    assert not [*tmp_path.iterdir()]


def test_the_name_of_ray_has_address_and_resources() -> None:
    assert executors.named("ray") == Ray()
    assert executors.named("ray://head:10001") == Ray("ray://head:10001")
    assert executors.named("ray:head:6379,gpus=0.5") == Ray("head:6379", gpus=0.5)
    assert executors.named("ray:cpus=2,gpus=0.5") == Ray(cpus=2, gpus=0.5)


def test_without_its_package_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(dfal.DfalError, match=r"needs submitit: pip install 'dfal\[slurm\]'"):
        contents(tmp_path / "s.db", [SMALL], "slurm")
    with pytest.raises(dfal.DfalError, match=r"needs ray: pip install 'dfal\[ray\]'"):
        contents(tmp_path / "s.db", [SMALL], "ray")


def test_the_command_line_runs_and_resumes_elsewhere(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[Any, ...]] = []

    def run(self: Slurm, tasks: Any, processes: int | None, folder: Path) -> base.Records:
        ran.append((self.parameters, len(tasks), processes, folder))
        yield from Local()(tasks, 1, folder)

    monkeypatch.setattr(Slurm, "__call__", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    settings = "--annotations 20 --seeds 2 --strategy random --epochs 1 --model linear"
    where = ["--executor", "slurm:partition=gpu", "--store", "s.db"]
    assert dfal.stopped_after(1, "run", *settings.split(), *where).code == 130
    assert dfal("run", "--resume", "--processes", "3", *where).code == 0
    folder = Path("s.db.jobs")
    assert ran == [({"partition": "gpu"}, 2, n, folder) for n in (None, 3)]
