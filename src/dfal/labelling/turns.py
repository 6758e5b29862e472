"""Turns at writing: of several processes that write to one store, none is kept waiting by another that never rests.

SQLite lets whoever asks at the right moment write. A process in a loop asks again microseconds
after it has finished, and one that waits looks only now and then: it may wait for minutes.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

locks: Any = None
"""The system's locks; None on Windows, where SQLite alone decides."""
with contextlib.suppress(ImportError):
    import fcntl

    locks = fcntl

PATIENCE = 10.0
"""Seconds after which a process goes on without a turn: whoever has it may have been stopped."""
SHORTEST, LONGEST = 0.0001, 0.001
"""Seconds between two looks at a lock that another process holds."""


class Turns:
    """A turnstile of two locks beside a store.

    Whoever wants to write takes the first lock, waits for the second, and then lets go of the first.
    A process that has just written cannot overtake one that waits: that one holds the first lock
    already. The system takes both from a process that is killed. The locks only order the writers;
    SQLite's own lock protects the store, also where these two cannot be had: on Windows, in a folder
    that cannot be written, or after PATIENCE.

    Args:
        store: the file.
    """

    def __init__(self, store: Path):
        self._store = store
        self._files: list[int] | None = None

    def close(self) -> None:
        """Let go of the files. They stay: removing them would let two writers lock two files of one name."""
        for file in self._files or []:
            os.close(file)
        self._files = None

    def _open(self) -> list[int]:
        files: list[int] = []
        with contextlib.suppress(OSError):
            for name in ("queue", "turn") if locks else ():
                path = self._store.with_name(f".{self._store.name}.{name}")
                # To read is enough for a lock: the files may be another user's.
                files.append(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return files

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn and keep it."""
        if self._files is None:
            self._files = self._open()
        if len(self._files) < 2:
            yield
            return
        queue, turn = self._files
        until = time.monotonic() + PATIENCE
        waited = _lock(queue, until)
        mine = waited and _lock(turn, until)
        if waited:
            _unlock(queue)
        try:
            yield
        finally:
            if mine:
                _unlock(turn)


def _lock(file: int, until: float) -> bool:
    """Take a lock; False where it cannot be had in time, or not at all."""
    pause = SHORTEST
    while True:
        try:
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        except OSError:  # a file system without locks
            return False
        else:
            return True


def _unlock(file: int) -> None:
    with contextlib.suppress(OSError):
        locks.flock(file, locks.LOCK_UN)
