"""Take turns at writing, so that no process waits for another that never rests.

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

MAX_TURN_SECONDS = 10.0
"""Seconds after which a process proceeds without a turn: whoever has it may have been stopped."""
MIN_PAUSE, MAX_PAUSE = 0.0001, 0.001
"""Seconds between two looks at a lock that another process holds."""


class Turns:
    """A turnstile of two locks beside a store.

    Whoever wants to write takes the first lock, waits for the second, and then lets go of the
    first. A process that has just written cannot overtake one that waits: that one holds the first
    lock already. The system takes both from a process that is killed. The locks only order the
    writers; SQLite's own lock protects the store, also where these two cannot be had: on Windows,
    in a folder that cannot be written, or after MAX_TURN_SECONDS.

    Args:
        store: the file.
    """

    def __init__(self, store: Path):
        real = Path(os.path.realpath(store))
        self._paths = [real.with_name(f".{real.name}.{name}") for name in ("queue", "turn")]
        self._files: list[int] | None = None

    def close(self) -> None:
        """Remove the two files. Whoever still has them open makes new ones before the next turn."""
        used = self._files is not None
        self._forget()
        self._files = None
        for path in self._paths if used else ():
            with contextlib.suppress(OSError):
                path.unlink()

    def _forget(self) -> None:
        for file in self._files or []:
            os.close(file)

    def _current(self) -> list[int]:
        """Return the two files, opened where they are not or where another process removed them."""
        if self._files is not None and all(os.fstat(file).st_nlink for file in self._files):
            return self._files
        self._forget()
        self._files = []
        with contextlib.suppress(OSError):
            for path in self._paths if locks else ():
                # To read is enough for a lock: the files may be another user's.
                self._files.append(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return self._files

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn and keep it."""
        files = self._current()
        if len(files) < 2:
            yield
            return
        queue, turn = files
        until = time.monotonic() + MAX_TURN_SECONDS
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
    pause = MIN_PAUSE
    while True:
        try:
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)
        except OSError:  # a file system without locks
            return False
        else:
            return True


def _unlock(file: int) -> None:
    with contextlib.suppress(OSError):
        locks.flock(file, locks.LOCK_UN)
