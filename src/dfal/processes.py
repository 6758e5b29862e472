"""Start worker processes that end with the process that started them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from dfal.errors import DfalError


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def start_worker(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a process that ignores Ctrl-C and ends as soon as this process does.

    The process is spawned, so that it shares no thread and no lock with this one.

    Args:
        target: a function at the top of its module; it is called with the worker's end of a pipe
            and then with `arguments`.
        arguments: what pickle can send.

    Returns:
        The process, and this end of the pipe.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_run, args=(target, theirs, *arguments), daemon=True)
    with ignore_sigint():
        worker.start()
    theirs.close()
    return worker, ours


@contextmanager
def death_errors(worker: BaseProcess, cure: str) -> Iterator[None]:
    """Turn what a pipe raises when the worker at its other end has died into a sentence.

    Args:
        worker: the process.
        cure: what to do about it.

    Raises:
        DfalError: in place of these errors.
    """
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError):
        worker.join(1)
        if worker.exitcode == 1:  # an exception of Python's, which standard error shows
            raise DfalError(
                "a worker process ended with the error above: where it is about starting"
                ' processes, a script needs `if __name__ == "__main__":` around what it runs, since'
                " each worker imports it"
            ) from None
        raise DfalError(f"a worker process died, perhaps for lack of memory: {cure}") from None


@contextmanager
def ignore_sigint() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C, while they still import modules.

    The main thread ignores the signal, any other thread blocks it; a process inherits both. Where a
    system has neither (Windows), the worker ignores Ctrl-C from the moment it runs.
    """
    _start_resource_tracker()  # afterwards, as it unblocks the signal
    if threading.current_thread() is threading.main_thread():
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
    elif hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    else:
        yield


def _run(target: Callable[..., None], pipe: Connection, *arguments: object) -> None:
    """Run a worker's function, until it returns or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent watcher", daemon=True).start()
    target(pipe, *arguments)


def _end_with_parent() -> None:
    """End this process when its parent has ended, even by kill -9.

    Otherwise it would continue training for half an hour, though nobody waits for the result.
    """
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _start_resource_tracker() -> None:
    """Start the helper process of multiprocessing, which does not exist on Windows."""
    with suppress(ImportError, AttributeError, OSError):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
