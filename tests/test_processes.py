"""Worker processes: Ctrl-C is not for them, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dfal.processes import ignore_sigint, start_worker

WAIT = 60.0
"""Seconds until a worker must have answered, at most."""


def echo(pipe: Connection, word: str) -> None:
    """Say what the worker was started with, and then repeat what it is told."""
    pipe.send(word)
    while True:
        pipe.send(pipe.recv())


@contextmanager
def echoing() -> Iterator[tuple[int, Connection]]:
    """A worker's process id and pipe; it is killed at the end."""
    worker, pipe = start_worker(echo, "ready")
    try:
        yield worker.pid or 0, pipe
    finally:
        worker.kill()
        worker.join()


def received(pipe: Connection) -> object:
    assert pipe.poll(WAIT)
    return pipe.recv()


def survives_ctrl_c() -> None:
    with echoing() as (pid, pipe):
        for _ in range(10):  # while it imports its modules
            os.kill(pid, signal.SIGINT)
            time.sleep(0.02)
        assert received(pipe) == "ready"
        os.kill(pid, signal.SIGINT)
        pipe.send("still there")
        assert received(pipe) == "still there"


def in_a_thread(function: Callable[[], None]) -> None:
    raised: list[BaseException] = []

    def caught() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=caught)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert not raised, raised


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_a_worker_ignores_ctrl_c_from_its_first_moment() -> None:
    survives_ctrl_c()
    in_a_thread(survives_ctrl_c)


def test_the_parent_hears_ctrl_c_again_afterwards() -> None:
    handler = signal.getsignal(signal.SIGINT)

    def unblocked() -> None:
        with ignore_sigint():
            pass
        if hasattr(signal, "pthread_sigmask"):
            assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

    unblocked()
    in_a_thread(unblocked)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_worker_starts_where_signals_and_the_tracker_are_those_of_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from multiprocessing import resource_tracker

    def lacking() -> None:
        raise ImportError("No module named '_posixsubprocess'")

    entered: list[bool] = []

    def enter() -> None:
        with ignore_sigint():
            entered.append(True)

    monkeypatch.setattr(resource_tracker, "ensure_running", lacking)
    monkeypatch.delattr("signal.pthread_sigmask", raising=False)
    enter()
    in_a_thread(enter)
    assert entered == [True, True]


PARENT = """
import os, sys, time
sys.path.insert(0, {folder!r})
import test_processes
from dfal.processes import start_worker
if __name__ == "__main__":
    worker, pipe = start_worker(test_processes.busy)
    pipe.recv()
    print(worker.pid, flush=True)
    time.sleep(600)
"""


def busy(pipe: Connection) -> None:
    """Work without ever looking at the pipe."""
    pipe.send("ready")
    while True:
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this machine has no /proc")
def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(Path(__file__).parent)), encoding="utf-8")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _runs(worker)
        parent.kill()
    deadline = time.monotonic() + WAIT
    while _runs(worker):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
